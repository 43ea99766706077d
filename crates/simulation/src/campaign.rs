//! Many runs, on all cores.

use crate::{Outcome, Plan, places, run};
use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// Seeds tried until a planned death comes about: whether a process comes to a place may hang on who is faster.
const TRIES: u64 = 40;

/// What is to be run, and for how long at most.
#[derive(Debug)]
pub struct Campaign {
    /// Each is run; those with deaths under further seeds until all of them happened.
    pub plans: Vec<Plan>,
    /// None begins later than this after the first.
    pub budget: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Plans that were run.
    pub done: usize,
    /// Runs it took.
    pub runs: usize,
    /// Plans whose deaths came about under none of the seeds tried.
    pub unreached: Vec<Plan>,
    /// Runs in which something was wrong.
    pub failed: Vec<(Plan, Outcome)>,
}

impl Campaign {
    /// Runs them, each on a fresh thread, as many at once as there are cores.
    pub fn run(self) -> Tally {
        let tally = Mutex::new(Tally::default());
        on_all_cores(self.plans, self.budget, |plan| {
            let (runs, plan, outcome) = until_reached(plan);
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.done += 1;
            tally.runs += runs;
            if outcome.error.is_some() {
                tally.failed.push((plan, outcome));
            } else if outcome.missed > 0 {
                tally.unreached.push(plan);
            }
        });
        tally.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does all of these, as many at once as there are cores; none begins when the budget is spent.
pub(crate) fn on_all_cores<T: Send>(items: impl IntoIterator<Item = T, IntoIter: Send>, budget: Duration, work: impl Fn(T) + Sync) {
    let (began, cores) = (Instant::now(), thread::available_parallelism().map_or(1, usize::from));
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while began.elapsed() < budget
                    && let Some(item) = next()
                {
                    work(item);
                }
            });
        }
    });
}

fn until_reached(mut plan: Plan) -> (usize, Plan, Outcome) {
    let mut runs = 0;
    loop {
        runs += 1;
        let outcome = afresh(&plan);
        if outcome.missed == 0 || outcome.error.is_some() || runs as u64 >= TRIES {
            return (runs, plan, outcome);
        }
        plan.seed += 1;
    }
}

/// Thread-local state of libraries starts anew with a thread: hash keys, for one.
fn afresh(plan: &Plan) -> Outcome {
    let panicked = |_| Outcome { told: Vec::new(), missed: 0, error: Some("the simulation panicked".to_owned()) };
    thread::scope(|scope| scope.spawn(|| run(plan)).join()).unwrap_or_else(panicked)
}

/// Runs full of trouble.
pub fn seeds(first: u64, count: u64) -> Vec<Plan> {
    (first..first + count).map(|seed| Plan { seed, deaths: Vec::new(), trouble: true }).collect()
}

/// A death at every place.
pub fn singles(seed: u64) -> Vec<Plan> {
    places().into_iter().map(|place| Plan { seed, deaths: vec![place], trouble: false }).collect()
}

/// A death at every place, and then one at every place.
pub fn pairs(seed: u64) -> Vec<Plan> {
    let (all, plan) = (places(), |deaths: Vec<String>| Plan { seed, deaths, trouble: false });
    all.iter().flat_map(|one| all.iter().map(move |other| plan(vec![one.clone(), other.clone()]))).collect()
}
