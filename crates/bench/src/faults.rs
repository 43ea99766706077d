//! `bench faults`: servers are killed, frozen and cut off under a steady load; which calls fail?
//!
//! Three server processes, a client in this one, and calls at a steady rate that do not wait for each other. The calls are
//! idempotent, and the client may repeat them as its policy says; each has the default deadline of 10 s. Peers are run one
//! after the other with the same faults at the same times. What Sinew's client itself knows (when an endpoint left the
//! rotation, and when it was back) is told too.

use crate::{
    call,
    echo::{EchoClient, Message, NAME, POLICY},
};
use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;
use sinew_client::{Client, Config, ConnectionState, Ports};
use sinew_core::{Endpoint, FixedList, Policies, ServiceName};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use testkit::{Program, Running};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep, sleep_until},
};

const SERVERS: usize = 3;

/// What a call may take without a sooner end, as Sinew's policy has it by default.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a server is away, and how long all are well after that.
const AWAY: Duration = Duration::from_millis(2_500);
const WELL: Duration = Duration::from_millis(5_000);

/// How soon no call is sent to a frozen endpoint any more, and how soon it is used again when it goes on.
const OUT: Duration = Duration::from_secs(1);
const BACK: Duration = Duration::from_secs(2);

/// Between two cuts of all connections to one server.
const BETWEEN_CUTS: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What happens.
    #[arg(long, value_delimiter = ',', default_value = "kill,stop,cut")]
    phases: Vec<Phase>,
    /// Whose client.
    #[arg(long, value_delimiter = ',', default_value = "sinew,tonic")]
    peers: Vec<call::Peer>,
    /// Calls a second.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Kills, or stops; fifty times as many cuts.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// One JSON object a row instead of text.
    #[arg(long)]
    json: bool,
}

/// What happens to servers, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// kill -9, and a start 2.5 s later.
    Kill,
    /// SIGSTOP, and SIGCONT 2.5 s later.
    Stop,
    /// `ss -K`: established connections are aborted, on both ends at once. For root.
    Cut,
}

/// What became of the calls.
#[derive(Debug, Default)]
struct Outcome {
    micros: Vec<u32>,
    /// By what they said.
    failed: BTreeMap<String, u64>,
}

/// When Sinew's client noticed.
#[derive(Debug, Default)]
struct Noticed {
    out: Vec<Duration>,
    back: Vec<Duration>,
}

#[derive(Debug, Serialize)]
struct Row {
    phase: Phase,
    peer: &'static str,
    faults: u32,
    calls: usize,
    failed: u64,
    failures: BTreeMap<String, u64>,
    p50_us: f64,
    p99_us: f64,
    longest_ms: f64,
    /// The longest until no call was sent to the endpoint any more, and until it was in the rotation again: Sinew's client
    /// only.
    out_ms: Option<f64>,
    back_ms: Option<f64>,
    /// Whether no call failed, and a frozen endpoint was noticed in time.
    held: bool,
}

/// Fails when a bound was missed by Sinew.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut missed = Vec::new();
    for &phase in &args.phases {
        for &peer in &args.peers {
            let row = runtime.block_on(measure(args, phase, peer))?;
            if args.json {
                println!("{}", serde_json::to_string(&row)?);
            } else {
                row.print();
            }
            if peer == call::Peer::Sinew && !row.held {
                missed.push(format!(
                    "{phase:?}: {} calls failed ({:?}), out after {:?} ms, back after {:?} ms",
                    row.failed, row.failures, row.out_ms, row.back_ms
                ));
            }
        }
    }
    ensure!(missed.is_empty(), "{}", missed.join("; "));
    Ok(())
}

impl Row {
    fn print(&self) {
        let times = match (self.out_ms, self.back_ms) {
            (Some(out), Some(back)) => format!("; out after {out:.0} ms, back after {back:.0} ms at most"),
            _ => String::new(),
        };
        println!(
            "{:?} × {}, {}: {} of {} calls failed; p50 {:.0} us, p99 {:.0} us, longest {:.0} ms{times}",
            self.phase, self.faults, self.peer, self.failed, self.calls, self.p50_us, self.p99_us, self.longest_ms
        );
        for (why, count) in &self.failures {
            println!("  {count} × {why}");
        }
    }
}

/// The servers, each a process of its own on a port that it keeps.
struct Servers {
    running: Vec<Running>,
    addresses: Vec<SocketAddr>,
    _logs: tempfile::TempDir,
}

impl Servers {
    fn start() -> anyhow::Result<Self> {
        let logs = tempfile::tempdir()?;
        // Held until all are known, so that they differ; free again before the servers bind them.
        let held = (0..SERVERS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let addresses = held.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        drop(held);
        let program = |(n, address): (usize, &SocketAddr)| {
            let program = Program::new(&format!("server {n}"), std::env::current_exe()?, logs.path().join(format!("{n}.log")));
            program.args(["serve", "--listeners", "1", "--port", &address.port().to_string()]).start()
        };
        let running = addresses.iter().enumerate().map(program).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { running, addresses, _logs: logs })
    }

    fn server(&mut self, round: u32) -> anyhow::Result<&mut Running> {
        self.running.get_mut(round as usize % SERVERS).context("one of the servers")
    }
}

async fn measure(args: &Args, phase: Phase, peer: call::Peer) -> anyhow::Result<Row> {
    let mut servers = Servers::start()?;
    for address in &servers.addresses {
        testkit::wait_for("a server", DEADLINE, async || {
            tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
        })
        .await?;
    }
    let over = Arc::new(AtomicBool::new(false));
    let mut noticed = Noticed::default();
    let outcome = match peer {
        call::Peer::Sinew => {
            let (name, list) = (ServiceName::new(NAME)?, FixedList::new());
            let endpoint = |(n, at): (usize, &SocketAddr)| Endpoint::new(&format!("echo-{n}"), &at.ip().to_string(), at.port());
            list.set(&name, servers.addresses.iter().enumerate().map(endpoint).collect());
            let client = Client::new(Ports::real(Arc::new(list)), Config::default(), Arc::new(Policies::resolve(&[POLICY])?))?;
            let calls = tokio::spawn(load(args.rate, EchoClient::new(client.channel(&name)), over.clone()));
            testkit::wait_for("all to be ready", DEADLINE, async || match ready(&client) {
                SERVERS => Ok(()),
                ready => Err(format!("{ready} are")),
            })
            .await?;
            let happened = happen(args, phase, &mut servers, Some((&client, &mut noticed))).await;
            over.store(true, Relaxed);
            let outcome = calls.await?;
            happened?;
            outcome
        }
        call::Peer::Tonic => {
            let calls = tokio::spawn(load(args.rate, EchoClient::new(call::tonic(&servers.addresses)?), over.clone()));
            let happened = happen(args, phase, &mut servers, None).await;
            over.store(true, Relaxed);
            let outcome = calls.await?;
            happened?;
            outcome
        }
    };
    let Outcome { mut micros, failed } = outcome;
    micros.sort_unstable();
    let at = |q: f64| micros.get(((micros.len().max(1) - 1) as f64 * q) as usize).map_or(f64::NAN, |micros| f64::from(*micros));
    let longest = |times: &[Duration]| times.iter().max().map(|time| time.as_secs_f64() * 1_000.0);
    let count = failed.values().sum();
    Ok(Row {
        phase,
        peer: if peer == call::Peer::Sinew { "sinew" } else { "tonic" },
        faults: if phase == Phase::Cut { args.rounds * 50 } else { args.rounds },
        calls: micros.len() + count as usize,
        failed: count,
        failures: failed,
        p50_us: at(0.5),
        p99_us: at(0.99),
        longest_ms: at(1.0) / 1_000.0,
        out_ms: longest(&noticed.out),
        back_ms: longest(&noticed.back),
        held: count == 0 && (phase != Phase::Stop || within(&noticed.out, OUT) && within(&noticed.back, BACK)),
    })
}

fn within(times: &[Duration], limit: Duration) -> bool {
    times.iter().all(|time| *time <= limit)
}

/// All the faults of a phase.
async fn happen(
    args: &Args,
    phase: Phase,
    servers: &mut Servers,
    mut watched: Option<(&Client, &mut Noticed)>,
) -> anyhow::Result<()> {
    sleep(WELL / 2).await;
    if phase == Phase::Cut {
        let mut done = 0;
        for round in 0..args.rounds * 50 {
            let port = servers.addresses.get(round as usize % SERVERS).context("one of the servers")?.port().to_string();
            let mut cut = Command::new("ss");
            // It complains when there was nothing to cut, as just after the cut before; and prints what it cut.
            let printed = cut.args(["-HK", "dst", "127.0.0.1", "dport", "=", &port]).stderr(Stdio::null()).output();
            let printed = printed.context("ss, of iproute2")?.stdout;
            done += printed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
            sleep(BETWEEN_CUTS).await;
        }
        ensure!(done >= args.rounds as usize * 25, "`ss -K` cut {done} connections only; it is for root");
        sleep(WELL / 2).await;
        return Ok(());
    }
    for round in 0..args.rounds {
        let began = Instant::now();
        let server = servers.server(round)?;
        if phase == Phase::Kill {
            server.kill()?
        } else {
            server.freeze()?
        }
        if let Some((client, noticed)) = &mut watched {
            noticed.out.push(match phase {
                Phase::Kill => until(client, SERVERS - 1, began).await?,
                _ => last_call(client, round as usize % SERVERS, began).await,
            });
        }
        sleep_until(began + AWAY).await;
        if let Some((client, _)) = &watched {
            ensure!(ready(client) < SERVERS, "nobody noticed for {AWAY:?}");
        }
        let began = Instant::now();
        if phase == Phase::Kill {
            server.restart()?
        } else {
            server.thaw()?
        }
        if let Some((client, noticed)) = &mut watched {
            noticed.back.push(until(client, SERVERS, began).await?);
        }
        sleep_until(began + WELL).await;
    }
    Ok(())
}

/// Endpoints in the rotation.
fn ready(client: &Client) -> usize {
    let endpoints = client.describe().into_iter().flat_map(|destination| destination.endpoints);
    endpoints.filter(|endpoint| endpoint.connection == ConnectionState::Ready).count()
}

/// How long it takes until so many endpoints are in the rotation.
async fn until(client: &Client, count: usize, began: Instant) -> anyhow::Result<Duration> {
    let mut ticks = interval(Duration::from_millis(1));
    while ready(client) != count {
        ticks.tick().await;
        ensure!(began.elapsed() < DEADLINE, "{} in the rotation, not {count}, after {DEADLINE:?}", ready(client));
    }
    Ok(began.elapsed())
}

/// When the last call was sent to an endpoint that answers none, while it is away: those under way can only become more.
async fn last_call(client: &Client, endpoint: usize, began: Instant) -> Duration {
    let (mut ticks, mut last, mut most) = (interval(Duration::from_millis(1)), Duration::ZERO, 0);
    while began.elapsed() < AWAY {
        ticks.tick().await;
        let endpoints = client.describe().into_iter().flat_map(|destination| destination.endpoints);
        let under_way = endpoints.skip(endpoint).map(|endpoint| endpoint.in_flight).next().unwrap_or_default();
        if under_way > most {
            (last, most) = (began.elapsed(), under_way);
        }
    }
    last
}

/// Calls at a steady rate, until it is over and all have ended.
async fn load<T>(rate: u32, client: EchoClient<T>, over: Arc<AtomicBool>) -> Outcome
where
    T: tonic::client::GrpcService<tonic::body::Body> + Clone + Send + 'static,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
    T::Future: Send,
{
    let (start, mut calls, mut outcome) = (Instant::now(), JoinSet::new(), Outcome::default());
    for n in 0u32.. {
        if over.load(Relaxed) {
            break;
        }
        sleep_until(start + Duration::from_secs(1) * n / rate).await;
        let mut client = client.clone();
        calls.spawn(async move {
            let sent = Instant::now();
            let answer = tokio::time::timeout(DEADLINE * 2, client.say(Message { payload: Bytes::from_static(&[7; 100]) })).await;
            match answer {
                Ok(Ok(_)) => Ok(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX)),
                Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
                Err(_) => Err(format!("no end within {:?}", DEADLINE * 2)),
            }
        });
        while let Some(one) = calls.try_join_next() {
            outcome.count(one);
        }
    }
    while let Some(one) = calls.join_next().await {
        outcome.count(one);
    }
    outcome
}

impl Outcome {
    fn count(&mut self, one: Result<Result<u32, String>, tokio::task::JoinError>) {
        match one.map_err(|error| error.to_string()).flatten() {
            Ok(micros) => self.micros.push(micros),
            Err(why) => *self.failed.entry(why).or_default() += 1,
        }
    }
}
