//! `simulation sagas`: thousands of seeds, and every ordered pair of places to die. `simulation mesh`: thousands of seeds of the
//! mesh alone. `simulation replay` and `simulation replay-mesh`: one run again.

use clap::{Parser, Subcommand};
use serde_json::json;
use simulation::{Campaign, Plan, mesh, pairs, run, seeds, singles};
use std::{process::ExitCode, time::Duration};

#[derive(Debug, Parser)]
#[command(about = "The shop in simulated time: a run is its seed")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Seeds full of trouble, a death at every place, and at every ordered pair of places.
    Sagas(Seeds),
    /// Callers, registry and servers of the mesh: seeds full of trouble.
    Mesh(Seeds),
    /// One run of the mesh, told line by line; its hash at the end.
    ReplayMesh {
        /// Its seed.
        #[arg(long)]
        seed: u64,
    },
    /// One run, told line by line.
    Replay {
        /// Its seed.
        #[arg(long)]
        seed: u64,
        /// Where processes die, one after the other: `order.saga.charge.after_call`.
        #[arg(long = "death")]
        deaths: Vec<String>,
    },
}

/// Which seeds, and for how long.
#[derive(Debug, clap::Args)]
struct Seeds {
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds in all; what does not fit is left out, and the rows say so.
    #[arg(long, default_value_t = 3_600)]
    budget: u64,
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Sagas(Seeds { seeds, seed, budget }) => sagas(seeds, seed, Duration::from_secs(budget)),
        Command::Mesh(Seeds { seeds, seed, budget }) => mesh_seeds(seed, seeds, Duration::from_secs(budget)),
        Command::ReplayMesh { seed } => replay_mesh(seed),
        Command::Replay { seed, deaths } => replay(Plan { trouble: deaths.is_empty(), seed, deaths }),
    }
}

/// One JSON object a phase, and one for each run in which something was wrong.
fn sagas(count: u64, seed: u64, budget: Duration) -> ExitCode {
    let (mut left, mut held) = (budget, true);
    for (phase, plans) in [
        ("simulated: a death at every place", singles(seed)),
        ("simulated: a death and then another, all ordered pairs", pairs(seed)),
        ("simulated: seeds full of trouble", seeds(seed, count)),
    ] {
        let (began, of) = (tokio::time::Instant::now(), plans.len());
        let tally = Campaign { plans, budget: left }.run();
        let seconds = began.elapsed();
        left = left.saturating_sub(seconds);
        for (plan, outcome) in &tally.failed {
            println!("{}", json!({ "case": plan.deaths, "seed": plan.seed, "held": false, "error": outcome.error }));
        }
        for plan in &tally.unreached {
            println!("{}", json!({ "case": plan.deaths, "held": false, "error": "never reached" }));
        }
        let failed = tally.failed.len() + tally.unreached.len();
        held &= failed == 0;
        let row = json!({
            "phase": phase, "done": tally.done, "of": of, "runs": tally.runs, "failed": failed, "seed": seed,
            "seconds": seconds.as_secs_f64(), "held": failed == 0,
        });
        println!("{row}");
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One JSON object, and one for each run in which something was wrong.
fn mesh_seeds(first: u64, count: u64, budget: Duration) -> ExitCode {
    let began = tokio::time::Instant::now();
    let tally = mesh::campaign(first..first + count, budget);
    for (seed, wrong) in &tally.failed {
        println!("{}", json!({ "seed": seed, "held": false, "error": wrong }));
    }
    let held = tally.failed.is_empty() && tally.done > 0;
    let row = json!({
        "phase": "simulated: the mesh, seeds full of trouble", "done": tally.done, "of": count, "runs": tally.done,
        "failed": tally.failed.len(), "seed": first, "calls": tally.calls, "promises": tally.tested,
        "seconds": began.elapsed().as_secs_f64(), "held": held,
    });
    println!("{row}");
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay_mesh(seed: u64) -> ExitCode {
    let outcome = mesh::run(seed);
    outcome.told.iter().for_each(|line| println!("{line}"));
    println!("{:016x}", outcome.hash);
    outcome.wrong.iter().for_each(|wrong| eprintln!("{wrong}"));
    if outcome.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(plan: Plan) -> ExitCode {
    let outcome = run(&plan);
    outcome.told.iter().for_each(|line| println!("{line}"));
    match outcome.error {
        Some(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
