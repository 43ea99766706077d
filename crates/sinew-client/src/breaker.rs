//! The circuit breaker of one endpoint.
//!
//! An endpoint that answers its connection's PINGs may still fail every call: a full disk, a lost database. Sending it
//! a share of the calls wastes them. After a run of failures the breaker keeps calls away, then lets a few through to
//! see. (Nygard, *Release It!*, chapter 5; outlier ejection after consecutive errors as in gRFC A50.)
//!
//! ```text
//!            failures in a row                 open_for has passed, or a new connection
//!  Closed ─────────────────────────▶ Open ────────────────────────────▶ HalfOpen
//!    ▲                                ▲                                  │   │
//!    │                                └──────────── one failure ─────────┘   │
//!    └─────────────────────────────── enough successes ──────────────────────┘
//! ```
//!
//! Each transition starts a new generation; what calls of an older one report is ignored. The whole state is one
//! word: [`State`] is a plain value with pure transitions, swapped by compare-and-exchange. A healthy call costs two
//! loads.
//!
//! Limits: it counts runs, not rates (an endpoint that fails half its calls at random passes), and it knows nothing
//! of other endpoints (what happens when all are open is the balancer's to decide).

use crate::config::BreakerConfig;
use sinew_core::classify::Verdict;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// One endpoint's breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    word: AtomicU64,
    /// Where times in the word count from.
    zero: Instant,
    config: BreakerConfig,
}

/// Leave to make one call; must be given to [`Breaker::settle`] exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permit {
    generation: u16,
}

/// When asking again is worthwhile; `None` as soon as a probe under way ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) until: Option<Instant>,
}

/// What the breaker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Calls pass; so many of the latest failed in a row.
    Closed { failures: u8 },
    /// No call passes before this time, in milliseconds after `zero`.
    Open { until_ms: u64 },
    /// Probes pass: so many are under way, so many have succeeded.
    HalfOpen { probes: u8, successes: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Twelve bits: a call would have to outlast 4,096 transitions to be taken for a newer one.
    generation: u16,
    phase: Phase,
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig, now: Instant) -> Self {
        let closed = State { generation: 0, phase: Phase::Closed { failures: 0 } };
        Self { word: AtomicU64::new(closed.pack()), zero: now, config }
    }

    /// Asks for leave to make a call.
    pub(crate) fn acquire(&self, now: Instant) -> Result<Permit, Refused> {
        let mut word = self.word.load(Relaxed);
        loop {
            let state = State::unpack(word);
            if let Phase::Closed { .. } = state.phase {
                return Ok(Permit { generation: state.generation });
            }
            let next = state
                .probe(self.ms(now), &self.config)
                .map_err(|until_ms| Refused { until: until_ms.map(|ms| self.zero + Duration::from_millis(ms)) })?;
            match self.word.compare_exchange_weak(word, next.pack(), Relaxed, Relaxed) {
                Ok(_) => return Ok(Permit { generation: next.generation }),
                Err(newer) => word = newer,
            }
        }
    }

    /// Reports how the call ended; true when that opened the breaker.
    pub(crate) fn settle(&self, permit: Permit, verdict: Verdict, now: impl FnOnce() -> Instant) -> bool {
        let mut word = self.word.load(Relaxed);
        if State::unpack(word).untouched_by(permit, verdict) {
            return false;
        }
        let until_ms = self.ms(now() + self.config.open_for);
        loop {
            let state = State::unpack(word);
            let next = state.settled(permit, verdict, until_ms, &self.config);
            match self.word.compare_exchange_weak(word, next.pack(), Relaxed, Relaxed) {
                Ok(_) => return matches!(next.phase, Phase::Open { .. }) && next.generation != state.generation,
                Err(newer) => word = newer,
            }
        }
    }

    /// The endpoint has a new connection: perhaps a new process, so an open breaker probes at once.
    pub(crate) fn reconnected(&self) {
        let _ = self.word.fetch_update(Relaxed, Relaxed, |word| {
            let state = State::unpack(word);
            matches!(state.phase, Phase::Open { .. }).then(|| state.next(Phase::HalfOpen { probes: 0, successes: 0 }).pack())
        });
    }

    /// What it is doing, for people.
    pub(crate) fn describe(&self) -> crate::describe::BreakerState {
        match State::unpack(self.word.load(Relaxed)).phase {
            Phase::Closed { .. } => crate::describe::BreakerState::Closed,
            Phase::Open { until_ms } => crate::describe::BreakerState::Open { until: self.zero + Duration::from_millis(until_ms) },
            Phase::HalfOpen { .. } => crate::describe::BreakerState::HalfOpen,
        }
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.zero).as_millis()).unwrap_or(u64::MAX)
    }
}

// === impl State ===

impl State {
    /// The next generation, doing `phase`.
    fn next(self, phase: Phase) -> Self {
        Self { generation: (self.generation + 1) & 0xfff, phase }
    }

    /// Open or HalfOpen, asked for leave: what follows, or when to ask again.
    fn probe(self, now_ms: u64, config: &BreakerConfig) -> Result<Self, Option<u64>> {
        match self.phase {
            Phase::Closed { .. } => Ok(self),
            Phase::Open { until_ms } if now_ms < until_ms => Err(Some(until_ms)),
            Phase::Open { .. } => Ok(self.next(Phase::HalfOpen { probes: 1, successes: 0 })),
            Phase::HalfOpen { probes, .. } if probes >= config.probes => Err(None),
            Phase::HalfOpen { probes, successes } => Ok(Self { phase: Phase::HalfOpen { probes: probes + 1, successes }, ..self }),
        }
    }

    /// The common case: nothing to write.
    fn untouched_by(self, permit: Permit, verdict: Verdict) -> bool {
        self.generation != permit.generation
            || match self.phase {
                Phase::Closed { failures } => verdict == Verdict::Neutral || verdict == Verdict::Success && failures == 0,
                Phase::Open { .. } => true,
                Phase::HalfOpen { .. } => false,
            }
    }

    /// A call of this generation ended; an older one's end changes nothing.
    fn settled(self, permit: Permit, verdict: Verdict, until_ms: u64, config: &BreakerConfig) -> Self {
        if self.generation != permit.generation {
            return self;
        }
        match (self.phase, verdict) {
            (Phase::Closed { .. }, Verdict::Success) => Self { phase: Phase::Closed { failures: 0 }, ..self },
            (Phase::Closed { failures }, Verdict::Failure) if failures + 1 >= config.failures => {
                self.next(Phase::Open { until_ms })
            }
            (Phase::Closed { failures }, Verdict::Failure) => Self { phase: Phase::Closed { failures: failures + 1 }, ..self },
            (Phase::HalfOpen { .. }, Verdict::Failure) => self.next(Phase::Open { until_ms }),
            (Phase::HalfOpen { successes, .. }, Verdict::Success) if successes + 1 >= config.successes => {
                self.next(Phase::Closed { failures: 0 })
            }
            (Phase::HalfOpen { probes, successes }, Verdict::Success) => {
                Self { phase: Phase::HalfOpen { probes: probes.saturating_sub(1), successes: successes + 1 }, ..self }
            }
            (Phase::HalfOpen { probes, successes }, Verdict::Neutral) => {
                Self { phase: Phase::HalfOpen { probes: probes.saturating_sub(1), successes }, ..self }
            }
            (Phase::Closed { .. }, Verdict::Neutral) | (Phase::Open { .. }, _) => self,
        }
    }

    // Generation 12 bits, phase 2, failures or probes 8, successes 4, time 38 (8 years of milliseconds).

    fn pack(self) -> u64 {
        let (phase, count, successes, until_ms) = match self.phase {
            Phase::Closed { failures } => (0, failures, 0, 0),
            Phase::Open { until_ms } => (1, 0, 0, until_ms.min((1 << 38) - 1)),
            Phase::HalfOpen { probes, successes } => (2, probes, successes, 0),
        };
        u64::from(self.generation) << 52 | phase << 50 | u64::from(count) << 42 | u64::from(successes & 15) << 38 | until_ms
    }

    fn unpack(word: u64) -> Self {
        let count = (word >> 42) as u8;
        let phase = match word >> 50 & 3 {
            0 => Phase::Closed { failures: count },
            1 => Phase::Open { until_ms: word & ((1 << 38) - 1) },
            _ => Phase::HalfOpen { probes: count, successes: (word >> 38) as u8 & 15 },
        };
        Self { generation: (word >> 52) as u16, phase }
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
