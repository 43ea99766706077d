//! A steady stream of calls that does not wait for answers, and what became of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::Mutex, task::JoinSet, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::Status;

/// A running stream of calls. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Load {
    stop: CancellationToken,
    running: AbortOnDropHandle<Outcome>,
    so_far: Arc<Mutex<Outcome>>,
}

/// What became of the calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// Errors by their text, and how many.
    pub(crate) failed: BTreeMap<String, u64>,
}

impl Load {
    /// Starts `rate` calls a second. Calls that the machine cannot start in time are started late, never left out.
    pub(crate) fn start<F>(rate: u32, call: impl Fn(u64) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let so_far = Arc::new(Mutex::new(Outcome::default()));
        let (stopped, counted) = (stop.clone(), so_far.clone());
        let running = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut calls = JoinSet::new();
            let mut number = 0;
            loop {
                tokio::select! {
                    biased;
                    () = stopped.cancelled() => break,
                    _ = ticks.tick() => {
                        calls.spawn(call(number));
                        number += 1;
                    }
                    Some(ended) = calls.join_next() => counted.lock().await.count(ended),
                }
            }
            while let Some(ended) = calls.join_next().await {
                counted.lock().await.count(ended);
            }
            counted.lock().await.clone()
        });
        Self { stop, running: AbortOnDropHandle::new(running), so_far }
    }

    /// Waits until so many calls were answered since now, which shows that the system works again.
    pub(crate) async fn answered_more(&self, calls: u64, limit: Duration) -> anyhow::Result<()> {
        let before = self.so_far.lock().await.answered;
        testkit::wait_for("more answers", limit, async || {
            let now = self.so_far.lock().await.answered;
            if now >= before + calls { Ok(()) } else { Err(format!("{} of {calls}", now - before)) }
        })
        .await
    }

    /// Ends the stream, waits for the calls under way, and fails if any failed.
    pub(crate) async fn none_failed(self) -> anyhow::Result<u64> {
        self.stop.cancel();
        let outcome = self.running.await?;
        anyhow::ensure!(outcome.failed.is_empty(), "calls failed: {outcome:?}");
        anyhow::ensure!(outcome.answered > 0, "no call was made");
        Ok(outcome.answered)
    }
}

impl Outcome {
    fn count(&mut self, ended: Result<Result<(), Status>, tokio::task::JoinError>) {
        match ended {
            Ok(Ok(())) => self.answered += 1,
            Ok(Err(status)) => *self.failed.entry(format!("{:?}: {}", status.code(), status.message())).or_default() += 1,
            Err(error) => *self.failed.entry(error.to_string()).or_default() += 1,
        }
    }
}
