//! One replica does the work, the others wait to.

use super::{Checkpoint, Lease};
use crate::SubscriptionConfig;
use sinew_core::Rng;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long an end waits for a claim: one that takes longer is likely not made at all.
const CLAIM: Duration = Duration::from_secs(1);

/// One replica's share in work that one replica does at a time.
#[derive(Debug)]
pub struct Tenure {
    checkpoint: Arc<dyn Checkpoint>,
    /// What it is about, for logs.
    what: String,
    /// Unique to this process: a restarted one is somebody else.
    owner: String,
    config: SubscriptionConfig,
    rng: Arc<dyn Rng>,
    /// Whether what is noted tells of trouble, of an earlier owner's too.
    troubled: AtomicBool,
    /// A claim is under way; told when it is not any more.
    claiming: AtomicBool,
    claimed: Notify,
}

impl Tenure {
    /// `what` names the work in logs; `instance` is how operators know this replica.
    pub fn new(
        checkpoint: Arc<dyn Checkpoint>,
        (what, instance): (&str, &str),
        config: SubscriptionConfig,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let owner = format!("{instance}/{}", Uuid::now_v7().simple());
        let (troubled, claiming) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { checkpoint, what: what.to_owned(), owner, config, rng, troubled, claiming, claimed: Notify::new() }
    }

    /// Works while the lease is held, and waits for it otherwise, until `shutdown`; then gives it back. Work that returns
    /// gives the lease up without giving it back: it is for work that learnt that it was fenced.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the work at once, as a crash would: another replica takes over when the lease ends.
    pub async fn serve<F: Future<Output = ()>>(&self, shutdown: &CancellationToken, work: impl Fn(Lease) -> F) {
        let mut held = None;
        tokio::select! {
            biased;
            () = self.told_to_leave(shutdown) => {}
            () = self.hold_again_and_again(&mut held, work) => {}
        }
        let Some(Lease { epoch, .. }) = held else { return };
        if let Err(error) = self.checkpoint.release(epoch).await {
            tracing::warn!(%error, what = self.what, "lease not given back; others take over when it ends");
        }
    }

    /// Returns at `shutdown`, but not within a claim: it may be made already, and nobody else would know to give it back.
    async fn told_to_leave(&self, shutdown: &CancellationToken) {
        shutdown.cancelled().await;
        let claimed = async {
            while self.claiming.load(Relaxed) {
                self.claimed.notified().await;
            }
        };
        let _ = timeout(CLAIM, claimed).await;
    }

    async fn hold_again_and_again<F: Future<Output = ()>>(&self, held: &mut Option<Lease>, work: impl Fn(Lease) -> F) {
        loop {
            let lease = self.claim().await;
            *held = Some(lease);
            self.troubled.store(true, Relaxed);
            tracing::info!(what = self.what, epoch = lease.epoch, position = lease.position, "this replica's turn");
            tokio::select! {
                biased;
                () = work(lease) => {}
                () = self.over(lease.epoch) => {}
            }
            *held = None;
            tracing::info!(what = self.what, epoch = lease.epoch, "another replica's turn");
        }
    }

    /// Waits until the lease is ours.
    async fn claim(&self) -> Lease {
        let mut failures = 0;
        loop {
            self.claiming.store(true, Relaxed);
            let claimed = self.checkpoint.claim(&self.owner, self.config.lease).await;
            self.claiming.store(false, Relaxed);
            self.claimed.notify_one();
            match claimed {
                Ok(Some(lease)) => return lease,
                Ok(None) => {
                    failures = 0;
                    sleep(jittered(self.config.look, &*self.rng)).await;
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, what = self.what, "cannot look at the lease; trying again");
                    sleep(self.backoff(failures)).await;
                }
            }
        }
    }

    /// Renews; returns when another replica has taken over.
    async fn over(&self, epoch: i64) {
        loop {
            sleep(self.config.lease / 3).await;
            match timeout(self.config.lease, self.checkpoint.renew(epoch, self.config.lease)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, what = self.what, "lease not renewed; trying again"),
                Err(_) => tracing::warn!(what = self.what, "lease not renewed in time; trying again"),
            }
        }
    }

    /// Notes why the work does not get on, where operators look.
    pub async fn trouble(&self, epoch: i64, trouble: &str) {
        self.troubled.store(true, Relaxed);
        self.note(epoch, Some(trouble)).await;
    }

    /// Takes back what was noted of trouble: the work gets on, though it may have nothing to do.
    pub async fn well(&self, epoch: i64) {
        if self.troubled.swap(false, Relaxed) {
            self.note(epoch, None).await;
        }
    }

    async fn note(&self, epoch: i64, trouble: Option<&str>) {
        if let Err(error) = self.checkpoint.trouble(epoch, trouble).await {
            tracing::debug!(%error, what = self.what, "trouble not noted");
        }
    }

    /// How long to wait after so many failures on end.
    pub fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.config.backoff.saturating_mul(1 << failures.saturating_sub(1).min(16));
        jittered(doubled.min(self.config.backoff_max), &*self.rng)
    }

    /// How long the lease lasts without a sign of life.
    pub fn lease(&self) -> Duration {
        self.config.lease
    }
}

/// Between half and all of it: replicas that began together do not stay together.
pub(crate) fn jittered(wait: Duration, rng: &dyn Rng) -> Duration {
    wait.mul_f64(0.5 + rng.unit() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CheckpointError, Reached};
    use sinew_core::{BoxFuture, SharedRng};
    use std::{future::ready, sync::Mutex};

    /// A store that is slow to say that a lease was taken.
    #[derive(Debug, Default)]
    struct Slow {
        taken: Notify,
        say: Notify,
        released: Mutex<Vec<i64>>,
    }

    impl Checkpoint for Slow {
        fn claim<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, Result<Option<Lease>, CheckpointError>> {
            Box::pin(async {
                self.taken.notify_one();
                self.say.notified().await;
                Ok(Some(Lease { epoch: 7, position: None, floor: 0 }))
            })
        }
        fn renew(&self, _: i64, _: Duration) -> BoxFuture<'_, Result<bool, CheckpointError>> {
            Box::pin(ready(Ok(true)))
        }
        fn advance(&self, _: i64, _: Reached, _: Duration) -> BoxFuture<'_, Result<bool, CheckpointError>> {
            Box::pin(ready(Ok(true)))
        }
        fn trouble<'a>(&'a self, _: i64, _: Option<&'a str>) -> BoxFuture<'a, Result<(), CheckpointError>> {
            Box::pin(ready(Ok(())))
        }
        fn release(&self, epoch: i64) -> BoxFuture<'_, Result<(), CheckpointError>> {
            self.released.lock().expect("unpoisoned").push(epoch);
            Box::pin(ready(Ok(())))
        }
    }

    async fn leaves_within_a_claim(answers: bool) -> Vec<i64> {
        let (store, shutdown) = (Arc::new(Slow::default()), CancellationToken::new());
        let config = SubscriptionConfig::default();
        let tenure = Tenure::new(store.clone(), ("a test", "a"), config, Arc::new(SharedRng::seeded(1)));
        let leave = async {
            store.taken.notified().await;
            shutdown.cancel();
            if answers {
                store.say.notify_one();
            }
        };
        let served = async { tokio::join!(biased; tenure.serve(&shutdown, |_| std::future::pending()), leave) };
        timeout(Duration::from_secs(10), served).await.expect("it leaves");
        store.released.lock().expect("unpoisoned").clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_taken_while_its_owner_is_told_to_leave_is_given_back() {
        assert_eq!(leaves_within_a_claim(true).await, [7]);
        assert_eq!(leaves_within_a_claim(false).await, Vec::<i64>::new(), "nobody waits for ever");
    }
}
