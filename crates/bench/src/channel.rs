//! `bench channel`: runs both peers in turn, several times over, and compares medians.
//!
//! Server and client are processes of their own, pinned to a core each; runs of the two peers alternate, so that
//! whatever else the machine does falls on both. Instructions per call are counted by callgrind over the difference
//! of two lengths of run, which leaves start-up out; they hardly vary from run to run.
//!
//! Envoys are sidecars: the one beside the client is tied to the client's core, the one beside the server to the server's.

use crate::{
    bounds::{Bounds, MEMORY},
    call::Peer,
    drive::Runtime,
    measure::{Measured, median},
    peers::envoy::Envoy,
    report::{Memory, Row, print},
    rival::{Against, Rival, Side},
};
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use sinew_consul_embedded::Agent;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// Calls of the two runs under callgrind.
const FEW: u64 = 2_000;
const MANY: u64 = 10_000;

/// Calls before memory is looked at.
const SOME: u64 = 50_000;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Whose channel is compared with Sinew's.
    #[arg(long, default_value = "tonic")]
    peer: Against,
    /// How many endpoints there are; `single` and `grpc` want one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    endpoints: u16,
    /// Print one JSON object per row instead of a table.
    #[arg(long)]
    json: bool,
    /// Paired runs; medians of them are compared.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Measured seconds per run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Numbers of concurrent callers.
    #[arg(long, value_delimiter = ',', default_value = "1,32,256")]
    callers: Vec<usize>,
    /// Runtimes of the client.
    #[arg(long, value_delimiter = ',', default_value = "current-thread,multi-thread")]
    runtimes: Vec<Runtime>,
    /// Count instructions per call too, with valgrind; takes a minute.
    #[arg(long)]
    instructions: bool,
    /// Find Sinew's endpoints in the Consul at this address; without it, in an embedded agent. Through the mesh's own watch
    /// either way.
    #[arg(long, env = "BENCH_CONSUL")]
    registry: Option<String>,
    /// Server's core; the client takes the next one, or both on two workers.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.runs > 0, "--runs must be at least 1");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ensure!(args.core + 1 < cores, "needs two cores, one for the server and one for the client; this machine has {cores}");
    // Its worker sleeps while nothing changes: it takes nothing from the peers.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (registry, _agent) = match &args.registry {
        Some(address) => (address.clone(), None),
        None => {
            let agent = runtime.block_on(Agent::builder().bind(([127, 0, 0, 1], 0).into())).context("the embedded registry")?;
            (agent.local_addr().to_string(), Some(agent))
        }
    };
    let args = &Args { registry: Some(registry), ..args.clone() };
    ensure!(args.peer.balances() || args.endpoints == 1, "this peer's channel has one endpoint: --endpoints 1");
    let server = Server::start(args)?;
    let sinew = Side::sinew(&server.endpoints, args.registry.as_deref())?;
    let rival = runtime.block_on(Rival::start(args.peer, &server.endpoints, args.core))?;
    let mut rows = Vec::new();
    for &runtime in &args.runtimes {
        for &callers in &args.callers {
            rows.push(compare(args, &sinew, &rival, runtime, callers)?);
        }
    }
    print(&rows, args.json)?;
    if args.peer == Against::Envoy {
        let added_bytes = memory(args, &sinew)? - memory(args, &Side::here(Peer::Single, &server.endpoints)?)?;
        let sidecars = rival.sidecars.iter().map(Envoy::memory).collect::<anyhow::Result<Vec<_>>>()?;
        let peer_added_bytes = sidecars.iter().sum::<u64>() as f64 / sidecars.len() as f64;
        let ratio = added_bytes / peer_added_bytes;
        Memory { bench: "channel", peer: rival.name, added_bytes, peer_added_bytes, ratio, bound: MEMORY, held: ratio <= MEMORY }
            .print(args.json)?;
    }
    Ok(())
}

fn compare(args: &Args, sinew: &Side, rival: &Rival, runtime: Runtime, callers: usize) -> anyhow::Result<Row> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..args.runs {
        eprintln!("{runtime:?}, {callers} callers: run {} of {}", run + 1, args.runs);
        // Alternate who goes first as well.
        for is_ours in [run % 2 == 0, run % 2 != 0] {
            let (side, measured) = if is_ours { (sinew, &mut ours) } else { (&rival.side, &mut theirs) };
            measured.push(measure(args, side, runtime, callers)?);
        }
    }
    let instructions = if args.instructions && runtime == Runtime::CurrentThread {
        Some((instructions(args, sinew, callers)?, instructions(args, &rival.side, callers)?))
    } else {
        None
    };
    let of = |all: &[Measured], f: fn(&Measured) -> f64| median(all.iter().map(f).collect());
    // Each pair ran back to back: the ratio within a pair is what the machine's mood cannot touch.
    let ratio = |f: fn(&Measured) -> f64| median(ours.iter().zip(&theirs).map(|(a, b)| f(a) / f(b)).collect());
    let row = Row {
        bench: "channel",
        endpoints: args.endpoints.into(),
        peer: rival.name,
        runtime,
        callers,
        throughput_ratio: ratio(|m| m.throughput),
        cpu_ratio: ratio(|m| m.cpu_us),
        p50_ratio: ratio(|m| m.p50_us),
        p99_ratio: ratio(|m| m.p99_us),
        instructions_ratio: instructions.map(|(a, b)| a / b),
        throughput: of(&ours, |m| m.throughput),
        peer_throughput: of(&theirs, |m| m.throughput),
        cpu_us: of(&ours, |m| m.cpu_us),
        peer_cpu_us: of(&theirs, |m| m.cpu_us),
        p50_us: of(&ours, |m| m.p50_us),
        peer_p50_us: of(&theirs, |m| m.p50_us),
        p99_us: of(&ours, |m| m.p99_us),
        peer_p99_us: of(&theirs, |m| m.p99_us),
        instructions: instructions.map(|i| i.0),
        peer_instructions: instructions.map(|i| i.1),
        bound: String::new(),
        held: true,
    };
    let bounds = Bounds::of(args.peer, args.endpoints, runtime, callers);
    Ok(Row { bound: bounds.words(), held: bounds.held(&row), ..row })
}

/// The client process's command line, under `wrapper`.
fn client(args: &Args, wrapper: &[&str], side: &Side, runtime: Runtime, callers: usize) -> Command {
    let cores = match runtime {
        Runtime::CurrentThread => (args.core + 1).to_string(),
        Runtime::MultiThread => format!("{},{}", args.core, args.core + 1),
    };
    let mut command = Command::new("taskset");
    command.args(["-c", &cores]).args(wrapper).arg(&side.program);
    command.args(["call", "--peer", &side.peer]).args(&side.directions);
    command.args(["--callers", &callers.to_string(), "--runtime", &name(runtime)]);
    command
}

/// As an argument.
pub(crate) fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}

fn measure(args: &Args, side: &Side, runtime: Runtime, callers: usize) -> anyhow::Result<Measured> {
    let mut command = client(args, &[], side, runtime, callers);
    let output = command.args(["--seconds", &args.seconds.to_string()]).stderr(Stdio::inherit()).output().context("taskset")?;
    ensure!(output.status.success(), "the {} client failed: {}", side.peer, output.status);
    serde_json::from_slice(&output.stdout).context("the client's measurement")
}

/// Resident memory of a client process after some calls, in bytes.
fn memory(args: &Args, side: &Side) -> anyhow::Result<f64> {
    let once = || {
        let mut command = client(args, &[], side, Runtime::CurrentThread, 32);
        let output = command.args(["--calls", &SOME.to_string()]).stderr(Stdio::inherit()).output().context("taskset")?;
        ensure!(output.status.success(), "the {} client failed: {}", side.peer, output.status);
        String::from_utf8(output.stdout)?.trim().parse::<f64>().context("the client's memory")
    };
    Ok(median((0..args.runs).map(|_| once()).collect::<anyhow::Result<Vec<_>>>()?))
}

/// Instructions per call of the client process, kernel not included.
fn instructions(args: &Args, side: &Side, callers: usize) -> anyhow::Result<f64> {
    let count = |calls: u64| {
        eprintln!("{callers} callers: instructions of {calls} calls, {}", side.peer);
        let wrapper = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
        let mut command = client(args, &wrapper, side, Runtime::CurrentThread, callers);
        collected(command.args(["--calls", &calls.to_string()]))
    };
    Ok((count(MANY)? - count(FEW)?) / (MANY - FEW) as f64)
}

/// What callgrind counted of a command that it runs.
pub(crate) fn collected(command: &mut Command) -> anyhow::Result<f64> {
    let output = command.output().with_context(|| format!("{}", command.get_program().to_string_lossy()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind failed (is it installed?): {text}");
    }
    // "==123== Collected : 123456".
    let line = text.lines().find_map(|line| line.split_once("Collected :")).context("callgrind printed no count")?;
    line.1.trim().parse::<f64>().context("callgrind's count")
}

/// The server process; ended with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) endpoints: String,
}

impl Server {
    /// Tied to a core, with endpoints that are known to the registry.
    fn start(args: &Args) -> anyhow::Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", &args.core.to_string()]).arg(std::env::current_exe()?).arg("serve");
        command.args(["--listeners", &args.endpoints.to_string()]);
        if let Some(registry) = &args.registry {
            command.args(["--registry", registry]);
        }
        Self::of(&mut command)
    }

    /// With one endpoint, on any core, unknown to everybody.
    pub(crate) fn bare() -> anyhow::Result<Self> {
        Self::of(Command::new(std::env::current_exe()?).args(["serve", "--listeners", "1"]))
    }

    /// A process that prints its addresses in one line, and ends when its input does.
    pub(crate) fn of(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("taskset (package util-linux)")?;
        let mut endpoints = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut endpoints)?;
        ensure!(!endpoints.is_empty(), "the server process failed");
        Ok(Self { child, endpoints: endpoints.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input ends it, after it has left the registry.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
