//! A breaker's three states in one word.
//!
//! Each transition starts a new generation; what calls of an older one report is ignored. [`State`] is a plain value with
//! pure transitions, swapped by compare-and-exchange. `tests/loom` runs it through every order of two threads' steps.

use crate::{
    config::BreakerConfig,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use sinew_core::classify::Verdict;

/// The state that threads share.
#[derive(Debug)]
pub(crate) struct Word(AtomicU64);

/// Leave to make one call; must be given to [`Word::settle`] exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permit {
    generation: u16,
}

/// What the breaker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Calls pass; so many of the latest failed in a row.
    Closed { failures: u8 },
    /// No call passes before this time, in milliseconds.
    Open { until_ms: u64 },
    /// Probes pass: so many are under way, so many have succeeded.
    HalfOpen { probes: u8, successes: u8 },
}

/// What the end of a call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Opened,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Twelve bits: a call would have to outlast 4,096 transitions to be taken for a newer one.
    generation: u16,
    phase: Phase,
}

impl Default for Word {
    /// Closed, without a failure.
    fn default() -> Self {
        Self(AtomicU64::new(State { generation: 0, phase: Phase::Closed { failures: 0 } }.pack()))
    }
}

impl Word {
    pub(crate) fn phase(&self) -> Phase {
        self.load().phase
    }

    fn load(&self) -> State {
        State::unpack(self.0.load(Relaxed))
    }

    /// Asks for leave to make a call; refused, it says when to ask again.
    pub(crate) fn acquire(&self, now_ms: impl FnOnce() -> u64, probes: u8) -> Result<Permit, Option<u64>> {
        let mut state = self.load();
        if let Phase::Closed { .. } = state.phase {
            return Ok(Permit { generation: state.generation });
        }
        let now_ms = now_ms();
        loop {
            let next = state.probe(now_ms, probes)?;
            match self.0.compare_exchange_weak(state.pack(), next.pack(), Relaxed, Relaxed) {
                Ok(_) => return Ok(Permit { generation: next.generation }),
                Err(newer) => state = State::unpack(newer),
            }
        }
    }

    /// Whether a call that ended so has nothing to say: the common case.
    pub(crate) fn ignores(&self, permit: Permit, verdict: Verdict) -> bool {
        self.load().untouched_by(permit, verdict)
    }

    /// Whether it has been closed ever since this leave was given.
    pub(crate) fn is_closed_for(&self, permit: Permit) -> bool {
        let state = self.load();
        state.generation == permit.generation && matches!(state.phase, Phase::Closed { .. })
    }

    /// A call ended. `too_many`: with it, too large a share of calls failed.
    pub(crate) fn settle(&self, permit: Permit, verdict: Verdict, until_ms: u64, too_many: bool, config: &BreakerConfig) -> Change {
        let mut state = self.load();
        loop {
            if state.untouched_by(permit, verdict) {
                return Change::None;
            }
            let next = state.settled(verdict, until_ms, too_many, config);
            match self.0.compare_exchange_weak(state.pack(), next.pack(), Relaxed, Relaxed) {
                Ok(_) if next.generation == state.generation => return Change::None,
                Ok(_) if matches!(next.phase, Phase::Open { .. }) => return Change::Opened,
                Ok(_) => return Change::Closed,
                Err(newer) => state = State::unpack(newer),
            }
        }
    }

    /// From open to half open, before its time.
    pub(crate) fn half_open(&self) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let state = State::unpack(word);
            matches!(state.phase, Phase::Open { .. }).then(|| state.next(Phase::HalfOpen { probes: 0, successes: 0 }).pack())
        });
    }
}

// === impl State ===

impl State {
    /// The next generation, doing `phase`.
    fn next(self, phase: Phase) -> Self {
        Self { generation: (self.generation + 1) & 0xfff, phase }
    }

    /// Asked for leave: what follows, or when to ask again.
    fn probe(self, now_ms: u64, most: u8) -> Result<Self, Option<u64>> {
        match self.phase {
            Phase::Closed { .. } => Ok(self),
            Phase::Open { until_ms } if now_ms < until_ms => Err(Some(until_ms)),
            Phase::Open { .. } => Ok(self.next(Phase::HalfOpen { probes: 1, successes: 0 })),
            Phase::HalfOpen { probes, .. } if probes >= most => Err(None),
            Phase::HalfOpen { probes, successes } => Ok(Self { phase: Phase::HalfOpen { probes: probes + 1, successes }, ..self }),
        }
    }

    /// Whether the end of a call changes nothing: of an older generation, or as the last one.
    fn untouched_by(self, permit: Permit, verdict: Verdict) -> bool {
        self.generation != permit.generation
            || match self.phase {
                Phase::Closed { failures } => verdict == Verdict::Neutral || verdict == Verdict::Success && failures == 0,
                Phase::Open { .. } => true,
                Phase::HalfOpen { .. } => false,
            }
    }

    /// A call of this generation ended.
    fn settled(self, verdict: Verdict, until_ms: u64, too_many: bool, config: &BreakerConfig) -> Self {
        match (self.phase, verdict) {
            (Phase::Closed { .. }, Verdict::Success) => Self { phase: Phase::Closed { failures: 0 }, ..self },
            (Phase::Closed { failures }, Verdict::Failure) if too_many || failures + 1 >= config.failures => {
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
