//! What the rule is told of a window of time, and what it answers.

use std::time::Duration;

/// The calls of one method in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Calls {
    /// How many.
    pub(super) count: u32,
    /// Mean logarithm (base 2) of the nanoseconds they took.
    pub(super) took: f64,
}

/// So many calls given up for each that succeeds are work for nobody.
const FUTILE: u32 = 20;

/// Whether hardly any call succeeds before its caller gives up.
pub(super) fn is_futile(succeeded: u32, given_up: u32) -> bool {
    given_up / FUTILE >= succeeded
}

/// How many there are, of all methods.
pub(super) fn count(calls: &[Calls]) -> u32 {
    calls.iter().map(|calls| calls.count).sum()
}

/// What a window has shown.
#[derive(Debug)]
pub(super) struct Window<'a> {
    /// When it ended.
    pub(super) at: Duration,
    /// By method, those that succeeded.
    pub(super) calls: &'a [Calls],
    /// By method, those whose callers gave up. They would have taken longer.
    pub(super) given_up: &'a [Calls],
    /// How many succeeded, those not among [`calls`](Self::calls) included.
    pub(super) ended: u64,
    /// Most calls under way.
    pub(super) in_flight: usize,
    /// Whether a call was refused.
    pub(super) refused: bool,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    /// The limit.
    pub(super) limit: usize,
    /// The least time to the end of the next window.
    pub(super) window: Duration,
    /// Calls that are under way already say nothing about the new limit.
    pub(super) fresh: bool,
    /// How long an experiment may last that begins with it.
    pub(super) patience: Option<Duration>,
}
