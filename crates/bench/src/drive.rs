//! What a client process does: so many callers, each making one call after the other over one shared channel.
//!
//! The clients of other makers, in a package of their own, are driven by this file too.

use crate::{
    echo::{EchoClient, Message, Transport},
    measure::{Measured, cpu_time, memory},
};
use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// Before measuring: connections, allocator and HPACK tables reach their steady state.
const WARM_UP: Duration = Duration::from_millis(500);

/// Calls of one caller for which there is room from the beginning.
const LOG: usize = 1 << 16;

/// How much is called, and on what.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    #[arg(long, default_value_t = 32)]
    callers: usize,
    #[arg(long)]
    runtime: Runtime,
    /// Measured seconds.
    #[arg(long, default_value_t = 3.0, conflicts_with = "calls")]
    seconds: f64,
    /// Make this many calls instead and measure nothing but the resident memory after them: for counting instructions from
    /// outside, too.
    #[arg(long)]
    calls: Option<u64>,
}

/// On which runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Runtime {
    /// One thread.
    CurrentThread,
    /// Two workers.
    MultiThread,
}

/// What each caller has a clone of.
pub(crate) trait Caller: Clone + Send + 'static {
    /// One call, and its answer.
    fn call(&mut self, message: Message) -> impl Future<Output = anyhow::Result<Message>> + Send;
}

impl<T: Transport> Caller for EchoClient<T> {
    async fn call(&mut self, message: Message) -> anyhow::Result<Message> {
        Ok(self.say(message).await?.into_inner())
    }
}

/// When a caller stops.
#[derive(Clone)]
enum Until {
    Time(Instant),
    Calls(Arc<AtomicU64>),
}

impl Until {
    fn reached(&self) -> bool {
        match self {
            Self::Time(end) => Instant::now() >= *end,
            Self::Calls(left) => left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err(),
        }
    }
}

impl Load {
    /// Runs the client, whatever it is, on the runtime that is asked for.
    pub(crate) fn block_on(&self, client: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let mut runtime = match self.runtime {
            Runtime::CurrentThread => tokio::runtime::Builder::new_current_thread(),
            Runtime::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        };
        runtime.worker_threads(2).enable_all().build()?.block_on(client)
    }

    /// Prints one [`Measured`] as JSON.
    pub(crate) async fn drive(&self, client: impl Caller) -> anyhow::Result<()> {
        if let Some(calls) = self.calls {
            callers(vec![Vec::new(); self.callers], &client, Until::Calls(Arc::new(AtomicU64::new(calls)))).await?;
            println!("{}", memory("self")?);
            return Ok(());
        }
        // Written to before: memory that is touched for the first time while calls are measured would be paid for by them.
        let mut logs = vec![vec![u32::MAX; LOG]; self.callers];
        logs = callers(logs, &client, Until::Time(Instant::now() + WARM_UP)).await?;
        let (started, cpu) = (Instant::now(), cpu_time()?);
        let end = started + Duration::from_secs_f64(self.seconds);
        logs = callers(logs, &client, Until::Time(end)).await?;
        let (took, cpu) = (started.elapsed(), cpu_time()?.saturating_sub(cpu));
        let measured = Measured::new(logs.concat(), took, cpu);
        println!("{}", serde_json::to_string(&measured)?);
        Ok(())
    }
}

/// A caller for each of these logs, which has its latencies afterwards, in nanoseconds, and nothing else. Any failed call is the
/// end of the benchmark.
async fn callers(logs: Vec<Vec<u32>>, client: &impl Caller, until: Until) -> anyhow::Result<Vec<Vec<u32>>> {
    let mut tasks = JoinSet::new();
    for mut latencies in logs {
        let (mut client, until) = (client.clone(), until.clone());
        tasks.spawn(async move {
            let message = Message { payload: Bytes::from(vec![7; 100]) };
            latencies.clear();
            while !until.reached() {
                let start = Instant::now();
                let answer = client.call(message.clone()).await?;
                latencies.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
                ensure!(answer.payload.len() == 100, "an echo changed its message");
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(one) = tasks.join_next().await {
        all.push(one.context("a caller panicked")??);
    }
    Ok(all)
}
