//! Many seeds, on all cores.

use super::{promises::Tested, run};
use crate::campaign::on_all_cores;
use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// What came of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Seeds that were run.
    pub done: usize,
    /// Calls in all of them.
    pub calls: usize,
    /// How often each promise was put to the test.
    pub tested: Tested,
    /// Seeds in which something was wrong, and what.
    pub failed: Vec<(u64, Vec<String>)>,
}

/// Runs these seeds, each on a fresh thread; none begins when the budget is spent.
pub fn campaign(seeds: impl IntoIterator<Item = u64, IntoIter: Send>, budget: Duration) -> Tally {
    let tally = Mutex::new(Tally::default());
    on_all_cores(seeds, budget, |seed| {
        let outcome = thread::scope(|scope| scope.spawn(|| run(seed)).join());
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.done += 1;
        match outcome {
            Ok(outcome) => {
                tally.calls += outcome.calls;
                outcome.tested.into_iter().for_each(|(promise, n)| *tally.tested.entry(promise).or_default() += n);
                if !outcome.wrong.is_empty() {
                    tally.failed.push((seed, outcome.wrong));
                }
            }
            Err(_) => tally.failed.push((seed, vec!["the simulation panicked".to_owned()])),
        }
    });
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.failed.sort();
    tally
}
