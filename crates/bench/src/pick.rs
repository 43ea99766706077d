//! `bench pick`: what many endpoints cost. Instructions of one pick, memory of an endpoint, and the time until a change of one
//! of them is applied.
//!
//! A pick is counted by callgrind over the difference of two numbers of picks, which leaves start-up out: it is the whole pick,
//! with the endpoint's permit and a place on its connection, given back at once. Changes and memory are those of a client
//! process of its own, before and after it knows of the endpoints; the connected ones are real connections to one server process.

use crate::{
    channel::{Server, collected, name},
    echo::{EchoClient, NAME, POLICY},
    measure::{cpu_time, median, memory},
};
use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sinew_client::{Channel, Client, Config, ConnectionState, Crowd, Ports, next_snapshot};
use sinew_core::{BoxFuture, BoxIo, Connector, Discover, Endpoint, Policies, ServiceName, Snapshot, policy::ServicePolicy};
use std::{
    io,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Picks of the two runs under callgrind.
const FEW: u64 = 10_000;
const MANY: u64 = 60_000;

/// What must hold: how much the instructions of a pick may differ from those with the fewest endpoints, how soon a change is
/// applied, and what an endpoint that is not connected may take.
const FLAT: f64 = 0.10;
const APPLIED_MS: f64 = 1.0;
const IDLE_BYTES: f64 = 2_048.0;

/// Changes of each kind, of which the median counts.
const CHANGES: usize = 51;

const LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Numbers of endpoints for picks; the last is that for changes and memory.
    #[arg(long, value_delimiter = ',', default_value = "3,100,10000")]
    endpoints: Vec<usize>,
    /// How calls are spread.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "peak-ewma,least-request,round-robin,weighted-round-robin,random,ring-hash,maglev"
    )]
    policies: Vec<Spread>,
    /// Leaves out picks, and so needs no valgrind.
    #[arg(long)]
    only_fleet: bool,
    /// One JSON object a row instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spread {
    PeakEwma,
    LeastRequest,
    RoundRobin,
    WeightedRoundRobin,
    Random,
    RingHash,
    Maglev,
}

impl Spread {
    fn policy(self) -> ServicePolicy {
        let service_config = match self {
            Self::PeakEwma => "{}",
            Self::LeastRequest => r#"{"loadBalancingConfig":[{"least_request_experimental":{}}]}"#,
            Self::RoundRobin => r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#,
            Self::WeightedRoundRobin => r#"{"loadBalancingConfig":[{"sinew_weighted_round_robin":{}}]}"#,
            Self::Random => r#"{"loadBalancingConfig":[{"sinew_random":{}}]}"#,
            Self::RingHash => r#"{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"key"}}]}"#,
            Self::Maglev => r#"{"loadBalancingConfig":[{"sinew_maglev":{"requestHashHeader":"key"}}]}"#,
        };
        ServicePolicy { service_config, ..POLICY }
    }
}

#[derive(Debug, Serialize)]
struct Row {
    bench: &'static str,
    what: String,
    endpoints: usize,
    value: f64,
    unit: &'static str,
    bound: &'static str,
    held: bool,
}

impl Row {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let (what, held) = (&self.what, if self.held { "held" } else { "MISSED" });
        let bound = if self.bound.is_empty() { String::new() } else { format!("; {}: {held}", self.bound) };
        println!("{what:<32} {:>6} endpoints {:>12.2} {}{bound}", self.endpoints, self.value, self.unit);
        Ok(())
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !args.only_fleet {
        for &spread in &args.policies {
            let mut fewest = None;
            for &endpoints in &args.endpoints {
                let value = instructions(spread, endpoints)?;
                let fewest = *fewest.get_or_insert(value);
                let held = (value / fewest - 1.0).abs() <= FLAT;
                let (what, unit) = (format!("pick, {}", name(spread)), "instructions");
                let bound = "within 10 % of that with the fewest endpoints";
                Row { bench: "pick", what, endpoints, value, unit, bound, held }.print(args.json)?;
            }
        }
    }
    let endpoints = args.endpoints.last().copied().unwrap_or(10_000);
    fleet(endpoints, args.json)
}

/// Instructions of one pick.
fn instructions(spread: Spread, endpoints: usize) -> anyhow::Result<f64> {
    let count = |picks: u64| {
        eprintln!("{} of {endpoints}: instructions of {picks} picks", name(spread));
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
        command.args(["picks", "--spread", &name(spread), "--endpoints", &endpoints.to_string(), "--picks", &picks.to_string()]);
        collected(&mut command)
    };
    Ok((count(MANY)? - count(FEW)?) / (MANY - FEW) as f64)
}

#[derive(Debug, clap::Args)]
pub(crate) struct Picks {
    #[arg(long)]
    spread: Spread,
    #[arg(long)]
    endpoints: usize,
    #[arg(long)]
    picks: u64,
}

/// The process that is counted.
pub(crate) fn picks(args: &Picks) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let policies = Policies::resolve(&[args.spread.policy()])?;
        let crowd = Crowd::new(&ServiceName::new(NAME)?, policies, args.endpoints).await?;
        // Keys that lie anywhere: consecutive numbers by the golden ratio.
        let missed = (0..args.picks).filter(|n| !crowd.pick(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).count();
        ensure!(missed == 0, "{missed} picks found nobody");
        Ok(())
    })
}

// === a large destination ===

fn fleet(endpoints: usize, json: bool) -> anyhow::Result<()> {
    let server = Server::bare()?;
    let row = |what: String, value, unit, bound, held| Row { bench: "pick", what, endpoints, value, unit, bound, held };
    for connected in [false, true] {
        eprintln!("{endpoints} endpoints, connected: {connected}");
        let client = |changes: usize| {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["fleet", "--endpoints", &endpoints.to_string(), "--changes", &changes.to_string()]);
            if connected {
                command.args(["--server", &server.endpoints]);
            }
            if changes == 0 {
                // What the allocator keeps for later is no endpoint's: it gives back at once what is freed.
                command.env("MIMALLOC_PURGE_DELAY", "0");
            }
            let output = command.stderr(Stdio::inherit()).output()?;
            ensure!(output.status.success(), "the client failed: {}", output.status);
            serde_json::from_slice::<Fleet>(&output.stdout).context("what the client measured")
        };
        let bytes = client(0)?.bytes;
        let (what, bound, held) = match connected {
            false => ("memory, registered only", "at most 2 KiB", bytes <= IDLE_BYTES),
            true => ("memory, connected", "", true),
        };
        row(what.to_owned(), bytes, "bytes each", bound, held).print(json)?;
        for Change { what, ms, cpu_ms } in client(CHANGES)?.changes {
            row(format!("change applied, {what}"), ms, "ms", "at most 1 ms", ms <= APPLIED_MS).print(json)?;
            // What it would be on a machine that does nothing else.
            row(format!("processor time, {what}"), cpu_ms, "ms", "", true).print(json)?;
        }
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct FleetArgs {
    #[arg(long)]
    endpoints: usize,
    /// How many changes of each kind.
    #[arg(long)]
    changes: usize,
    /// All of them are this one; without it no connection comes to be.
    #[arg(long)]
    server: Option<SocketAddr>,
}

/// What the client process of a large destination measured.
#[derive(Debug, Serialize, Deserialize)]
struct Fleet {
    /// Resident memory for each endpoint.
    bytes: f64,
    changes: Vec<Change>,
}

/// A kind of change, in milliseconds.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    what: String,
    /// The median.
    ms: f64,
    /// The mean: the scheduler counts in steps that are longer than one change.
    cpu_ms: f64,
}

impl Change {
    fn of(what: &str, times: &[(f64, f64)]) -> Self {
        let cpu: f64 = times.iter().map(|times| times.1).sum();
        Self {
            what: what.to_owned(),
            ms: median(times.iter().map(|times| times.0).collect()),
            cpu_ms: cpu / times.len().max(1) as f64,
        }
    }
}

/// The registry: a list that is replaced as a whole, as a registry's answers are.
#[derive(Debug)]
struct List(watch::Sender<Arc<Snapshot>>);

impl Discover for List {
    fn watch(&self, _: &ServiceName) -> watch::Receiver<Arc<Snapshot>> {
        self.0.subscribe()
    }
}

/// Never connects, and never gives up.
#[derive(Debug)]
struct Never;

impl Connector for Never {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(std::future::pending())
    }
}

/// The client process.
pub(crate) fn client(args: &FleetArgs) -> anyhow::Result<()> {
    let fleet = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(args))?;
    println!("{}", serde_json::to_string(&fleet)?);
    Ok(())
}

async fn measure(args: &FleetArgs) -> anyhow::Result<Fleet> {
    let list = Arc::new(List(watch::Sender::new(Arc::new(Snapshot::known(Vec::new())))));
    let (mut ports, mut config) = (Ports::real(list.clone()), Config::default());
    if args.server.is_none() {
        ports.connector = Some(Arc::new(Never));
        config.connection.connect_timeout = Duration::from_secs(3_600);
    }
    let at = args.server.unwrap_or(([127, 0, 0, 1], 1).into());
    let client = Client::new(ports, config, Arc::new(Policies::resolve(&[POLICY])?))?;
    let channel = client.channel(&ServiceName::new(NAME)?);
    let before = memory("self")?;
    let endpoint = |n: usize| Endpoint::new(&format!("{NAME}-{n}"), &at.ip().to_string(), at.port());
    // An endpoint that is as before is the same value in the next answer, as it is in those of `sinew-consul`.
    let everybody: Vec<_> = (0..args.endpoints).map(endpoint).map(Arc::new).collect();
    let all = || Snapshot::known(everybody.clone());
    list.0.send_replace(Arc::new(all()));
    settled(&client, args).await?;
    let bytes = memory("self")?.saturating_sub(before) as f64 / args.endpoints as f64;
    if args.server.is_some() {
        // One call, so that what is measured is known to work.
        EchoClient::new(channel.clone()).say(crate::echo::Message::numbered(1)).await?;
    }
    if args.changes == 0 {
        return Ok(Fleet { bytes, changes: Vec::new() });
    }
    let (mut weight, mut gone, mut new) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..args.changes {
        let one = n * args.endpoints / args.changes;
        let mut heavier = all();
        if let Some(endpoint) = heavier.endpoints.get_mut(one) {
            *endpoint = Arc::new(Endpoint { weight: 2, ..Endpoint::clone(endpoint) });
        }
        let mut without = all();
        without.endpoints.remove(one);
        weight.push(apply(&list, &channel, heavier).await?);
        gone.push(apply(&list, &channel, without).await?);
        new.push(apply(&list, &channel, all()).await?);
        settled(&client, args).await?;
    }
    let changes = vec![Change::of("another weight", &weight), Change::of("one gone", &gone), Change::of("one new", &new)];
    Ok(Fleet { bytes, changes })
}

/// Waits until everybody is connected, or is known of.
async fn settled(client: &Client, args: &FleetArgs) -> anyhow::Result<()> {
    let wanted = |state: &ConnectionState| args.server.is_none() || *state == ConnectionState::Ready;
    testkit::wait_for("all endpoints", LIMIT, async || {
        let endpoints = client.describe().into_iter().flat_map(|destination| destination.endpoints);
        match endpoints.filter(|endpoint| wanted(&endpoint.connection)).count() {
            count if count == args.endpoints => Ok(()),
            count => Err(format!("{count}")),
        }
    })
    .await
}

/// From the registry's answer to the snapshot that calls see: milliseconds, and those of them on the processor.
async fn apply(list: &List, channel: &Channel, answer: Snapshot) -> anyhow::Result<(f64, f64)> {
    let (applied, answer) = (next_snapshot(channel), Arc::new(answer));
    let (began, cpu) = (Instant::now(), cpu_time()?);
    list.0.send_replace(answer);
    applied.await;
    let (took, cpu) = (began.elapsed(), cpu_time()?.saturating_sub(cpu));
    Ok((took.as_secs_f64() * 1_000.0, cpu.as_secs_f64() * 1_000.0))
}
