//! A client process: so many callers, each making one call after the other over one shared channel.

use crate::{
    echo::{EchoClient, Message, NAME, POLICY, Transport},
    measure::{Measured, cpu_time, memory},
    registry,
    serve::{CONNECTION_WINDOW, STREAM_WINDOW},
};
use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sinew_client::{Client, Config, Ports};
use sinew_core::{Policies, ServiceName};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};
use tonic::transport::{Channel, Endpoint as TonicEndpoint};

/// Before measuring: connections, allocator and HPACK tables reach their steady state.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    peer: Peer,
    #[arg(long, value_delimiter = ',')]
    endpoints: Vec<SocketAddr>,
    /// Sinew finds them in the Consul at this address instead.
    #[arg(long)]
    registry: Option<String>,
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

/// Whose channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// `sinew_client::Channel`.
    Sinew,
    /// `tonic::transport::Channel::balance_list`.
    Tonic,
    /// A bare `tonic::transport::Channel`, to the first endpoint.
    Single,
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

/// Prints one [`Measured`] as JSON.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut runtime = match args.runtime {
        Runtime::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        Runtime::MultiThread => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(2).enable_all().build()?.block_on(async {
        match args.peer {
            Peer::Sinew => {
                let client = sinew(args)?;
                drive(args, EchoClient::new(client.channel(&ServiceName::new(NAME)?))).await
            }
            Peer::Tonic => drive(args, EchoClient::new(tonic(&args.endpoints)?)).await,
            Peer::Single => {
                let endpoint = args.endpoints.first().context("no endpoint")?;
                drive(args, EchoClient::new(single(*endpoint)?)).await
            }
        }
    })
}

/// As shipped: default settings, breaker, deadline, retries and statistics on.
fn sinew(args: &Args) -> anyhow::Result<Client> {
    let policies = Policies::resolve(&[POLICY])?;
    let discover = registry::discover(args.registry.as_deref(), &args.endpoints)?;
    Ok(Client::new(Ports::real(discover), Config::default(), Arc::new(policies))?)
}

pub(crate) fn tonic(endpoints: &[SocketAddr]) -> anyhow::Result<Channel> {
    let endpoints = endpoints.iter().map(|at| endpoint(*at)).collect::<Result<Vec<_>, _>>()?;
    Ok(Channel::balance_list(endpoints.into_iter()))
}

/// A channel to one endpoint, which connects with its first call.
pub(crate) fn single(endpoint: SocketAddr) -> anyhow::Result<Channel> {
    Ok(self::endpoint(endpoint)?.connect_lazy())
}

fn endpoint(at: SocketAddr) -> anyhow::Result<TonicEndpoint> {
    let endpoint = TonicEndpoint::from_shared(format!("http://{at}"))?.tcp_nodelay(true);
    Ok(endpoint.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW))
}

async fn drive<T: Transport>(args: &Args, client: EchoClient<T>) -> anyhow::Result<()> {
    if let Some(calls) = args.calls {
        callers(args.callers, &client, Until::Calls(Arc::new(AtomicU64::new(calls)))).await?;
        println!("{}", memory("self")?);
        return Ok(());
    }
    callers(args.callers, &client, Until::Time(Instant::now() + WARM_UP)).await?;
    let (started, cpu) = (Instant::now(), cpu_time()?);
    let end = started + Duration::from_secs_f64(args.seconds);
    let latencies = callers(args.callers, &client, Until::Time(end)).await?;
    let measured = Measured::new(latencies, started.elapsed(), cpu_time()?.saturating_sub(cpu));
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Latencies in nanoseconds; any failed call is the end of the benchmark.
async fn callers<T: Transport>(count: usize, client: &EchoClient<T>, until: Until) -> anyhow::Result<Vec<u32>> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (mut client, until) = (client.clone(), until.clone());
        tasks.spawn(async move {
            let message = Message { payload: Bytes::from(vec![7; 100]) };
            let mut latencies = Vec::with_capacity(1 << 16);
            while !until.reached() {
                let start = Instant::now();
                let answer = client.say(message.clone()).await?;
                latencies.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
                ensure!(answer.get_ref().payload.len() == 100, "an echo changed its message");
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(one) = tasks.join_next().await {
        all.extend(one.context("a caller panicked")??);
    }
    Ok(all)
}
