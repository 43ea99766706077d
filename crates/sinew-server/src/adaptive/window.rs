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

/// What a window has shown.
#[derive(Debug)]
pub(super) struct Window<'a> {
    /// When it ended.
    pub(super) at: Duration,
    /// By method.
    pub(super) calls: &'a [Calls],
    /// How many ended, those not among [`calls`](Self::calls) included.
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
