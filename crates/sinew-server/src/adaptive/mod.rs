//! A limit of calls under way that finds itself: [`limit`] counts calls, [`gradient`] has the rule.
//!
//! Successes count, and calls that were given up after longer than others take: time-outs tell of their callers, too. Failures do
//! not, because they are quick. A server all of whose calls fail keeps the limit that it has.

mod gradient;
mod limit;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use limit::Adaptive;

use std::time::Duration;

/// Settings of a limit that follows latency. The defaults are meant to be right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveConcurrency {
    /// The lowest limit, at least 1. Default 10: fewer calls under way are no load, and their times say little.
    pub min_limit: usize,
    /// How many times as long calls may take, on (geometric) average, as when none waits for another; more than 1. Default 2:
    /// then there are about twice as many under way as are worked on, so that no worker waits for work.
    pub tolerance: f64,
    /// The shortest time over which calls are looked at. Default 100 ms, as Envoy's; longer where calls are slow or few.
    pub window: Duration,
    /// Time between measurements of what calls take when none waits, while the limit is in use. Default 30 s: each costs some
    /// half of one window's calls.
    pub probe_interval: Duration,
}

impl Default for AdaptiveConcurrency {
    fn default() -> Self {
        Self { min_limit: 10, tolerance: 2.0, window: Duration::from_millis(100), probe_interval: Duration::from_secs(30) }
    }
}
