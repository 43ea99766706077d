//! `cargo xtask faults`: faults at length, on real servers; exits non-zero when a bound is missed.

use crate::{
    peers,
    run::{self, Failure, cargo, stopwatch, with},
    servers,
};
use std::{ffi::OsStr, time::Duration};

const USAGE: &str = "cargo xtask faults mesh [--phases NAME,…] [--peers sinew,tonic,envoy,grpcio] [--rounds 20] [--rate 2000]
                        [--seed 1] [--json]

What happens to three servers under 2,000 calls a second, and what must hold of Sinew's client:

  kill              kill -9, and a start 2.5 s later: no call fails
  stop              SIGSTOP for 2.5 s: no call fails, the last one is sent within 1 s, the server is back within 2 s
  black-hole        packets to and from a server are lost for 5 s (root): no call fails, the last one is sent within 3 s
  cut               all connections to a server are aborted, 50 times a round (root): no call fails
  age               connections are told to go after 2 s, 6 s a round: no call fails, not even those that must not be repeated
  everything-fails  every call is answered UNAVAILABLE: at most 1.10 attempts a call over one hop, 1.25 over three
  overload          three times as many calls as can be answered: at least 90 % of what can be is, in time
  once              calls that must not be repeated, under kills, stops and cuts (root): none is executed twice

Other makers' clients (`tonic`, `envoy` as a sidecar, `grpcio`) have the same faults beside ours; they are only measured. What
they need is installed; what this machine cannot do is said and left out.

cargo xtask faults mesh simulated [--seed 1] [--seeds 10000] [--budget 3600]

Callers, registry and servers of the mesh in simulated time: seeds full of crashes, drains, cut and hanging links, slow and
failing servers, and a registry that dies, is late or lies, for so many seconds at most. What must hold is in docs/simulation.md.

cargo xtask faults sagas [--budget 45m] [--seed 1] [--phase NAME,…] [--json]

What fails, and what must hold, in this order; all but the first on Consul, PostgreSQL, Redis and RabbitMQ:

  simulated the services in simulated time: a death at every place, one and then another at every ordered pair of places,
            and 10,000 seeds (from --seed on) of deaths, cut and hanging links, slow and forgetful databases
  broker    50 kills of the node that leads the queue, of three: no confirmed event lost, none takes effect twice or out
            of order, silences of 2 s at most in 99 of 100 kills
  postgres  50 kills in the middle of commits: no acknowledged order lost, unknown outcomes are asked for again and are
            there once, the books agree
  redis     15 flushes, kills and stalls: orders and log-ins go on, the catalogue is right or away, never wrong
  storm     10 minutes of random kills of everything at 50 orders a second, while fewer than 200 are under way (`not_sent`
            tells of the others): no acknowledged order lost or doubled, all at their end within 30 s of the last kill,
            the books agree
  places    every fault (kill, freeze, panic, everything twice) at every place of the order saga and its participants:
            every order ends, and the books agree
  pairs     a kill and then another, in an order drawn by the seed, for as long as the budget lasts

--phase names those that are wanted; without it all of them share the budget. A phase that is cut short says how much of
it was done; all of them need more than the default budget. With --json stdout has one JSON object a line and nothing else.";

/// One part of the command.
#[derive(Debug)]
struct Phase {
    name: &'static str,
    /// Of the default budget, in minutes; shares are in proportion to it.
    share: u32,
}

const PHASES: &[Phase] = &[
    Phase { name: "simulated", share: 8 },
    Phase { name: "broker", share: 6 },
    Phase { name: "postgres", share: 5 },
    Phase { name: "redis", share: 3 },
    Phase { name: "storm", share: 11 },
    Phase { name: "places", share: 11 },
    Phase { name: "pairs", share: 1 },
];

/// In `broker`.
const KILLS: &str = "50";

/// What is asked for.
#[derive(Debug)]
struct Wanted {
    budget: Duration,
    seed: u64,
    json: bool,
    phases: Vec<&'static Phase>,
}

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    if let [what, rest @ ..] = args
        && what == "mesh"
    {
        if let [what, rest @ ..] = rest
            && what == "simulated"
        {
            let mut simulation = cargo();
            simulation.args(["run", "--quiet", "--package", "simulation", "--profile", "checked", "--", "mesh"]).args(rest);
            return run::run(&mut simulation);
        }
        let mut bench = cargo();
        bench.args(["run", "--quiet", "--release", "--package", "bench", "--", "faults"]).args(rest);
        return run::run(peers::with(rest, &mut bench));
    }
    let wanted = wanted(args)?;
    let path = servers::path()?;
    let (began, mut failed) = (stopwatch(), Vec::new());
    for (at, phase) in wanted.phases.iter().enumerate() {
        let left = wanted.phases.get(at..).unwrap_or_default();
        // What one does not use goes to those after it.
        let budget = share(wanted.budget.saturating_sub(began.elapsed()), left);
        if let Err(failure) = one(phase, budget, &wanted, &path) {
            eprintln!("{}", failure.message);
            failed.push(phase.name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::no(format!("bounds were missed: {}", failed.join(", ")))) }
}

fn one(phase: &Phase, budget: Duration, wanted: &Wanted, path: &OsStr) -> Result<(), Failure> {
    let mut tests = cargo();
    if phase.name == "simulated" {
        let (seed, seconds) = (wanted.seed.to_string(), budget.as_secs().to_string());
        tests.args(["run", "--quiet", "--package", "simulation", "--profile", "checked", "--", "sagas"]);
        tests.args(["--seed", &seed, "--budget", &seconds]);
        return if wanted.json { run::lines(&mut tests, |line| line.starts_with('{')) } else { run::run(&mut tests) };
    }
    // The features are those of the whole workspace, so that nothing is built anew after `cargo xtask test`.
    tests.args(["test", "--quiet", "--workspace", "--test", if phase.name == "broker" { "bus" } else { "e2e" }]);
    tests.args(["--", "--nocapture", "--exact"]);
    tests.arg(match phase.name {
        "broker" => "leader_lost::the_leader_of_the_queue_is_killed_again_and_again",
        _ => "faults::any_fault_at_any_place_leaves_one_story_on_real_engines",
    });
    tests.env("SINEW_FAULTS_PHASE", phase.name).env("SINEW_FAULTS_KILLS", KILLS);
    tests.env("SINEW_FAULTS_BUDGET", budget.as_secs().to_string()).env("SINEW_FAULTS_SEED", wanted.seed.to_string());
    let tests = with(path, &mut tests);
    if wanted.json { run::lines(tests, |line| line.starts_with('{')) } else { run::run(tests) }
}

/// Of what is left, for the first of those that are left.
fn share(left: Duration, phases: &[&Phase]) -> Duration {
    let all: u32 = phases.iter().map(|phase| phase.share).sum();
    phases.first().map_or(Duration::ZERO, |first| left * first.share / all.max(1))
}

fn wanted(args: &[String]) -> Result<Wanted, Failure> {
    let [what, args @ ..] = args else { return Err(Failure::usage(USAGE)) };
    if what != "sagas" {
        return Err(Failure::usage(USAGE));
    }
    let (mut budget, mut seed, mut json, mut names, mut rest) = (45 * 60, 1, false, Vec::new(), args.iter());
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| Failure::usage(format!("{arg} needs a value\n\n{USAGE}")));
        match arg.as_str() {
            "--json" => json = true,
            "--budget" => {
                budget = value().and_then(|v| seconds(v).ok_or_else(|| Failure::usage("--budget: write 90s, 45m or 2h")))?
            }
            "--seed" => seed = value()?.parse().map_err(|_| Failure::usage("--seed: a number"))?,
            "--phase" => names.extend(value()?.split(',')),
            _ => return Err(Failure::usage(format!("{arg} is no argument of this\n\n{USAGE}"))),
        }
    }
    if let Some(unknown) = names.iter().find(|name| PHASES.iter().all(|phase| phase.name != **name)) {
        return Err(Failure::usage(format!("--phase: there is no {unknown:?}\n\n{USAGE}")));
    }
    let phases = PHASES.iter().filter(|phase| names.is_empty() || names.contains(&phase.name)).collect();
    Ok(Wanted { budget: Duration::from_secs(budget), seed, json, phases })
}

fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(args: &[&str]) -> Result<Vec<&'static str>, String> {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        wanted(&args).map(|w| w.phases.iter().map(|phase| phase.name).collect()).map_err(|failure| failure.message)
    }

    #[test]
    fn budgets_have_a_unit() {
        let read = ["90s", "45m", "2h", "45", "", "m", "-1m", "1d"].map(super::seconds);
        assert_eq!(read, [Some(90), Some(2_700), Some(7_200), None, None, None, None, None]);
    }

    #[test]
    fn phases_are_named_and_keep_their_order() {
        assert_eq!(asked(&["sagas"]).unwrap().len(), PHASES.len());
        assert_eq!(asked(&["sagas", "--phase", "storm,broker", "--phase", "redis"]).unwrap(), ["broker", "redis", "storm"]);
        assert!(asked(&["sagas", "--phase", "rain"]).unwrap_err().starts_with("--phase: there is no \"rain\""));
        assert!(asked(&["sagas", "--phase"]).is_err() && asked(&[]).is_err());
    }

    #[test]
    fn each_phase_has_its_share_and_the_last_one_what_is_left() {
        let all: Vec<_> = PHASES.iter().collect();
        assert_eq!(PHASES.iter().map(|phase| phase.share).sum::<u32>(), 45);
        assert_eq!(share(Duration::from_secs(45 * 60), &all), Duration::from_secs(8 * 60));
        assert_eq!(share(Duration::from_secs(100), &all[6..]), Duration::from_secs(100));
    }
}
