//! A slice of the runs that `cargo xtask faults sagas` makes in full: another one each day.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

use simulation::{Campaign, Plan, pairs, places, run, seeds, singles};
use std::{
    thread,
    time::{Duration, SystemTime},
};

/// Runs of each kind, about a quarter of a minute.
const SLICE: usize = 24;

fn today() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400
}

#[track_caller]
fn hold(phase: &'static str, plans: Vec<Plan>) {
    let of = plans.len();
    let tally = Campaign { plans, budget: Duration::MAX }.run();
    for (plan, outcome) in &tally.failed {
        eprintln!("{plan:?}:\n{}", outcome.told.join("\n"));
    }
    let failed: Vec<_> = tally.failed.iter().map(|(plan, outcome)| (plan, &outcome.error)).collect();
    assert!(failed.is_empty() && tally.unreached.is_empty(), "{phase}: {failed:?}; never reached: {:?}", tally.unreached);
    assert!(tally.done == of && of > 0, "{} of {of} were run", tally.done);
    eprintln!("{phase}: {} plans in {} runs", tally.done, tally.runs);
}

#[test]
fn orders_end_once_whatever_dies_hangs_or_stalls() {
    let first = 1_000_000 + today() * SLICE as u64;
    eprintln!("seeds {first} and on");
    hold("seeds", seeds(first, SLICE as u64));
}

#[test]
fn a_death_at_any_place_leaves_one_story() {
    hold("singles", singles(today()));
}

#[test]
fn a_death_and_then_another_leave_one_story() {
    let all = pairs(today());
    assert_eq!(all.len(), places().len().pow(2));
    let slices = all.len().div_ceil(SLICE);
    let slice = today() as usize % slices;
    eprintln!("slice {} of {slices}", slice + 1);
    hold("pairs", all.into_iter().skip(slice).step_by(slices).collect());
}

/// Without this, what a seed found could not be looked at again. Nine of these were another run the second time while dying
/// processes closed their streams in tokio's order.
#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in [1, 3, 5, 7, 17, 22, 25, 33, 36, 40, 55, 57, 62] {
        let plan = Plan { seed, deaths: Vec::new(), trouble: true };
        let (first, second) = (afresh(plan.clone()), afresh(plan));
        assert!(first.0.len() > 10, "{:?}", first.0);
        assert_eq!(first, second, "seed {seed}");
    }
}

fn afresh(plan: Plan) -> (Vec<String>, Option<String>) {
    let outcome = thread::spawn(move || run(&plan)).join().unwrap();
    (outcome.told, outcome.error)
}
