//! `bench faults`: servers are killed, frozen, cut off, made old, made to fail and overloaded under a steady load; which calls
//! fail, and which are made too often?
//!
//! Server processes, a client in this one, and calls at a steady rate that do not wait for each other. Where the peers of
//! other makers are asked for, each has the same faults at the same times, one peer after the other. What Sinew's client
//! itself knows (when an endpoint left the rotation, and when it was back) is told too.

mod age;
mod away;
mod caller;
mod cut;
mod everything_fails;
mod namespace;
mod once;
mod overload;
mod row;
mod servers;
mod watch;

use anyhow::ensure;
use caller::Peer;
use clap::ValueEnum;
use serde::Serialize;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const SERVERS: usize = 3;

/// What a call may take without a sooner end, as Sinew's policy has it by default.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What happens.
    #[arg(long, value_delimiter = ',', default_value = "kill,stop,black-hole,cut,age,everything-fails,overload,once")]
    phases: Vec<Phase>,
    /// Whose client. `everything-fails` and `overload` are Sinew's alone, `once` is tonic's too.
    #[arg(long, value_delimiter = ',', default_value = "sinew,tonic")]
    peers: Vec<Peer>,
    /// Calls a second.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// How often it happens; other phases last as long in proportion (see each).
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Of what is random: Sinew's picks and waits, and which fault hits whom in `once`.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object a row instead of text.
    #[arg(long)]
    json: bool,
}

/// What happens to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// kill -9, and a start 2.5 s later.
    Kill,
    /// SIGSTOP, and SIGCONT 2.5 s later.
    Stop,
    /// Every packet from and to a server is lost for 5 s, without a word to anybody. For root.
    BlackHole,
    /// `ss -K`: established connections are aborted, on both ends at once; fifty times a round. For root.
    Cut,
    /// Servers tell connections to go after 2 s; 6 s a round.
    Age,
    /// Every call is answered UNAVAILABLE, over one hop and over three; half a second a round.
    EverythingFails,
    /// Three times as many calls as there is capacity for; half a second a round.
    Overload,
    /// Calls that must not be repeated, under kills, stops and cuts.
    Once,
}

impl Phase {
    fn is_for(self, peer: Peer) -> bool {
        match self {
            Self::Kill | Self::Stop | Self::BlackHole | Self::Cut | Self::Age => true,
            Self::Once => matches!(peer, Peer::Sinew | Peer::Tonic),
            Self::EverythingFails | Self::Overload => peer == Peer::Sinew,
        }
    }
}

/// Fails when a bound was missed by Sinew.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let missed = runtime.block_on(async {
        let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            biased;
            _ = interrupted.recv() => anyhow::bail!("interrupted"),
            _ = terminated.recv() => anyhow::bail!("terminated"),
            missed = all(args) => missed,
        }
    })?;
    ensure!(missed.is_empty(), "bounds were missed:\n{}", missed.join("\n"));
    Ok(())
}

/// Every phase for every peer; what Sinew missed.
async fn all(args: &Args) -> anyhow::Result<Vec<String>> {
    let mut missed = Vec::new();
    for &phase in &args.phases {
        if let Err(reason) = possible(phase) {
            eprintln!("{phase:?} is left out: {reason:#}");
            continue;
        }
        for &peer in args.peers.iter().filter(|peer| phase.is_for(**peer)) {
            if let Err(reason) = peer.there() {
                eprintln!("{phase:?}: {peer:?} is left out: {reason:#}");
                continue;
            }
            eprintln!("{phase:?}: {peer:?}");
            let rows = match phase {
                Phase::Kill | Phase::Stop | Phase::BlackHole => vec![away::run(args, phase, peer).await?],
                Phase::Cut => vec![cut::run(args, peer).await?],
                Phase::Age => age::run(args, peer).await?,
                Phase::EverythingFails => everything_fails::run(args).await?,
                Phase::Overload => overload::run(args).await?,
                Phase::Once => vec![once::run(args, peer).await?],
            };
            for row in rows {
                row.print(args.json)?;
                missed.extend(row.missed());
            }
        }
    }
    Ok(missed)
}

/// Whether this machine lets it happen, or why not.
fn possible(phase: Phase) -> anyhow::Result<()> {
    match phase {
        Phase::BlackHole => namespace::possible(),
        Phase::Cut | Phase::Once => cut::possible(),
        _ => Ok(()),
    }
}
