//! `bench slow`: one of several endpoints answers late; who notices, and what do callers feel?
//!
//! Calls come at a steady rate whether or not earlier ones were answered, so that a slow endpoint cannot slow down those
//! who measure it. Each peer is run with all endpoints well and with the last one slow, in turn, several times over.
//! Server and clients share this process, on threads of their own.

use crate::{
    call,
    echo::{EchoClient, EchoServer, Message, NAME, POLICY, Transport},
    load,
    measure::median,
    peers::envoy::{Envoy, Side},
    serve,
};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use http::{Request, Response};
use hyper::body::Incoming;
use serde::Serialize;
use sinew_client::{Client, Config, Ports};
use sinew_core::{Endpoint, FixedList, Policies, ServiceName, policy::ServicePolicy};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tonic::{body::Body, codegen::BoxFuture};
use tower_service::Service;

/// What must hold: the slow endpoint's share of the calls, and p99 beside that of healthy endpoints.
const MOST_SHARE: f64 = 0.005;
const MOST_P99: f64 = 1.25;

/// Not counted: connections are made, and latencies become known.
const WARM_UP: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many endpoints, of which one is slow.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=100))]
    endpoints: u16,
    /// How much later it answers, in milliseconds.
    #[arg(long, default_value_t = 200)]
    delay: u64,
    /// Calls a second.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Counted seconds of a run.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Paired runs, of which the medians count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Who is measured too.
    #[arg(long, value_delimiter = ',')]
    beside: Vec<Beside>,
    /// One JSON object a peer instead of text.
    #[arg(long)]
    json: bool,
}

/// Those that are not always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Beside {
    /// A bare channel to an Envoy beside it, which balances by least request.
    Envoy,
}

/// A peer, and its results.
#[derive(Debug, Serialize)]
struct Row {
    peer: &'static str,
    /// Of all calls, those that went to the slow endpoint.
    slow_share: f64,
    p50_us: f64,
    p99_us: f64,
    healthy_p99_us: f64,
    p99_ratio: f64,
    held: bool,
}

/// Two runs of a peer, without and with a slow endpoint: its share, and latencies in nanoseconds, shortest first.
struct Pair {
    share: f64,
    healthy: Vec<u32>,
    late: Vec<u32>,
}

/// Who is asked to spread the calls.
#[derive(Debug, Clone, Copy)]
enum Peer {
    /// Sinew, by this service config.
    Sinew(&'static str),
    Tonic,
    Envoy,
}

const PEERS: [(&str, Peer); 5] = [
    ("sinew, peak EWMA (default)", Peer::Sinew("{}")),
    ("sinew, least request", Peer::Sinew(r#"{"loadBalancingConfig":[{"least_request_experimental":{}}]}"#)),
    ("sinew, round robin", Peer::Sinew(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)),
    ("tonic, balance_list", Peer::Tonic),
    ("envoy, least request", Peer::Envoy),
];

/// Answers late.
#[derive(Debug, Clone)]
struct Late {
    delay: Duration,
    calls: Arc<AtomicU64>,
}

impl Service<Request<Incoming>> for Late {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        self.calls.fetch_add(1, Relaxed);
        let delay = self.delay;
        Box::pin(async move {
            if !delay.is_zero() {
                sleep(delay).await;
            }
            EchoServer.call(request).await
        })
    }
}

/// The endpoints, on a thread of their own; they end with it.
struct Servers {
    addresses: Vec<SocketAddr>,
    calls: Vec<Arc<AtomicU64>>,
    _runtime: tokio::runtime::Runtime,
}

impl Servers {
    fn start(args: &Args, late: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (mut addresses, mut calls) = (Vec::new(), Vec::new());
        for n in 1..=args.endpoints {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("no port on loopback")?;
            addresses.push(listener.local_addr()?);
            let delay = if n == args.endpoints { late } else { Duration::ZERO };
            let service = Late { delay, calls: Arc::default() };
            calls.push(service.calls.clone());
            runtime.spawn(serve::accept(listener, service));
        }
        Ok(Self { addresses, calls, _runtime: runtime })
    }

    /// Calls so far: of all, and of the slow one.
    fn calls(&self) -> (u64, u64) {
        let each: Vec<_> = self.calls.iter().map(|calls| calls.load(Relaxed)).collect();
        (each.iter().sum(), each.last().copied().unwrap_or_default())
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let wanted = |peer: &Peer| !matches!(peer, Peer::Envoy) || args.beside.contains(&Beside::Envoy);
    let mut peers: Vec<_> = PEERS.into_iter().filter(|(_, peer)| wanted(peer)).map(|peer| (peer, Vec::new())).collect();
    for n in 1..=args.runs {
        for ((name, peer), results) in &mut peers {
            eprintln!("run {n} of {}: {name}", args.runs);
            let (_, healthy) = measure(args, *peer, Duration::ZERO)?;
            let (share, late) = measure(args, *peer, Duration::from_millis(args.delay))?;
            results.push(Pair { share, healthy, late });
        }
    }
    for ((peer, _), results) in peers {
        let of = |what: fn(&Pair) -> f64| median(results.iter().map(what).collect());
        let row = Row {
            peer,
            slow_share: of(|pair| pair.share),
            p50_us: of(|pair| quantile(&pair.late, 0.5)),
            p99_us: of(|pair| quantile(&pair.late, 0.99)),
            healthy_p99_us: of(|pair| quantile(&pair.healthy, 0.99)),
            p99_ratio: of(|pair| quantile(&pair.late, 0.99) / quantile(&pair.healthy, 0.99)),
            held: false,
        };
        let row = Row { held: row.slow_share <= MOST_SHARE && row.p99_ratio <= MOST_P99, ..row };
        if args.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            println!(
                "{:<27} {:6.2} % to the slow one, p50 {:.0} us, p99 {:.0} us; all well p99 {:.0} us; ratio {:.2}",
                row.peer,
                row.slow_share * 100.0,
                row.p50_us,
                row.p99_us,
                row.healthy_p99_us,
                row.p99_ratio
            );
        }
    }
    Ok(())
}

/// One run: the slow one's share, and latencies in nanoseconds, shortest first.
fn measure(args: &Args, peer: Peer, late: Duration) -> anyhow::Result<(f64, Vec<u32>)> {
    let servers = Servers::start(args, late)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match peer {
            Peer::Tonic => drive(args, &servers, EchoClient::new(call::tonic(&servers.addresses)?)).await,
            Peer::Envoy => {
                let envoy = Envoy::start(std::slice::from_ref(&servers.addresses), Side::Client, None).await?;
                drive(args, &servers, EchoClient::new(call::single(envoy.address(0)?)?)).await
            }
            Peer::Sinew(service_config) => {
                let (name, list) = (ServiceName::new(NAME)?, FixedList::new());
                let endpoint = |(n, at): (usize, &SocketAddr)| Endpoint::new(&format!("echo-{n}"), &at.ip().to_string(), at.port());
                list.set(&name, servers.addresses.iter().enumerate().map(endpoint).collect());
                let policies = Policies::resolve(&[ServicePolicy { service_config, ..POLICY }])?;
                let client = Client::new(Ports::real(Arc::new(list)), Config::default(), Arc::new(policies))?;
                drive(args, &servers, EchoClient::new(client.channel(&name))).await
            }
        }
    })
}

async fn drive<T: Transport>(args: &Args, servers: &Servers, client: EchoClient<T>) -> anyhow::Result<(f64, Vec<u32>)> {
    let end = WARM_UP + Duration::from_secs(args.seconds);
    let (mut before, mut latencies, mut failed) = (None, Vec::new(), None);
    let call = |_, due| {
        let counted = due >= WARM_UP;
        if counted && before.is_none() {
            before = Some(servers.calls());
        }
        let mut client = client.clone();
        async move {
            let sent = Instant::now();
            let answer = client.say(Message { payload: Bytes::from_static(&[7; 100]) }).await;
            answer.map(|_| counted.then(|| u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX)))
        }
    };
    load::steady(
        args.rate,
        |due| due < end,
        call,
        |one| match one.map_err(anyhow::Error::from).and_then(|one| Ok(one?)) {
            Ok(latency) => latencies.extend(latency),
            Err(error) => failed = Some(error),
        },
    )
    .await;
    if let Some(error) = failed {
        return Err(error);
    }
    let ((all, slow), (all_before, slow_before)) = (servers.calls(), before.unwrap_or_default());
    ensure!(all > all_before, "no call arrived");
    latencies.sort_unstable();
    Ok(((slow - slow_before) as f64 / (all - all_before) as f64, latencies))
}

/// In microseconds.
fn quantile(sorted: &[u32], q: f64) -> f64 {
    let at = ((sorted.len().saturating_sub(1)) as f64 * q).round() as usize;
    sorted.get(at).map_or(f64::NAN, |nanos| f64::from(*nanos) / 1_000.0)
}
