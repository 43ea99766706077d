//! The circuit breaker of one endpoint, or of one method at one endpoint.
//!
//! An endpoint that answers its connection's PINGs may still fail every call: a full disk, a lost database. Sending it
//! a share of the calls wastes them. After a run of failures, or when too large a share of the latest calls failed, the
//! breaker keeps calls away, then lets a few through to see. (Nygard, *Release It!*, chapter 5; outlier ejection after
//! consecutive errors as in gRFC A50.)
//!
//! ```text
//!        failures in a row, or their share         open_for has passed, or a new connection
//!  Closed ─────────────────────────▶ Open ────────────────────────────▶ HalfOpen
//!    ▲                                ▲                                  │   │
//!    │                                └──────────── one failure ─────────┘   │
//!    └─────────────────────────────── enough successes ──────────────────────┘
//! ```
//!
//! The three states are one [`Word`]; the share is counted in a [`Window`], where it is wanted. A healthy call costs two
//! loads, and a count where there is a window.
//!
//! Limits: it knows nothing of other endpoints (what happens when all are open is the balancer's to decide).

mod plan;
#[cfg(test)]
mod tests;
mod window;
mod word;

pub(crate) use plan::{Breakers, Plan};
pub(crate) use word::Permit;

use crate::{config::BreakerConfig, describe::BreakerState};
use sinew_core::classify::Verdict;
use std::time::Duration;
use tokio::time::Instant;
use window::Window;
use word::{Change, Phase, Word};

/// A breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    word: Word,
    /// The latest calls, where their share of failures matters.
    window: Option<Box<Window>>,
    /// Where times in the word count from.
    zero: Instant,
    config: BreakerConfig,
}

/// When asking again is worthwhile; `None` as soon as a probe under way ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) until: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig, now: Instant) -> Self {
        let window = config.rate.map(|rate| Box::new(Window::new(rate.window)));
        Self { word: Word::default(), window, zero: now, config }
    }

    /// Asks for leave to make a call.
    pub(crate) fn acquire(&self, now: Instant) -> Result<Permit, Refused> {
        let now = || self.ms(now);
        let at = |ms| self.zero + Duration::from_millis(ms);
        self.word.acquire(now, self.config.probes).map_err(|until_ms| Refused { until: until_ms.map(at) })
    }

    /// Reports how the call ended; true when that opened the breaker.
    pub(crate) fn settle(&self, permit: Permit, verdict: Verdict, now: impl FnOnce() -> Instant) -> bool {
        if self.window.is_none() && self.word.ignores(permit, verdict) {
            return false;
        }
        let now = now();
        let too_many = self.counted(permit, verdict, now);
        let until_ms = self.ms(now + self.config.open_for);
        match self.word.settle(permit, verdict, until_ms, too_many, &self.config) {
            Change::None => false,
            // What was before says nothing about what comes back. Nothing is counted until then, but for calls that ended just now.
            change => {
                self.window.iter().for_each(|window| window.clear());
                change == Change::Opened
            }
        }
    }

    /// Counts the call in the window; true when too large a share of those in it failed.
    fn counted(&self, permit: Permit, verdict: Verdict, now: Instant) -> bool {
        let (Some(window), Some(rate)) = (&self.window, &self.config.rate) else { return false };
        if verdict == Verdict::Neutral || !self.word.is_closed_for(permit) {
            return false;
        }
        let (failed, now) = (verdict == Verdict::Failure, self.ms(now));
        window.count(now, failed);
        if !failed {
            return false;
        }
        let (calls, failures) = window.calls(now);
        calls >= u64::from(rate.minimum) && failures * 100 >= calls * u64::from(rate.percent)
    }

    /// The endpoint has a new connection: perhaps a new process, so an open breaker probes at once.
    pub(crate) fn reconnected(&self) {
        self.word.half_open();
    }

    /// What it is doing, for people.
    pub(crate) fn describe(&self) -> BreakerState {
        match self.word.phase() {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { until_ms } => BreakerState::Open { until: self.zero + Duration::from_millis(until_ms) },
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.zero).as_millis()).unwrap_or(u64::MAX)
    }
}
