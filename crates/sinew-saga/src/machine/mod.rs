//! The decisions of a saga: a pure function from where it stands and what happened to where it goes.
//!
//! ```text
//!            act(0) done      act(last) done
//!  Started ─────────────▶ Processing ─────────────▶ Completed
//!     │                       │
//!     └───────┬───────────────┘  refused, cancelled, or unknown for too long
//!             ▼
//!        Compensating ────────────────────────────▶ Failed
//!             │  ▲          undo(0) done
//!     refused ▼  │ operator resumes or skips
//!           parked
//! ```
//!
//! Undos run from the step that may have had an effect down to the first. A step whose outcome is unknown may have had
//! one; a step that was refused has not, unless an earlier attempt of it ended unknown.

#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use sinew_core::planted;
use std::fmt;

/// How far a saga is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Written; the outcome of no step is known.
    Started,
    /// At least one step is done.
    Processing,
    /// Taking back what was done.
    Compensating,
    /// Everything is done. Terminal.
    Completed,
    /// Everything is taken back. Terminal.
    Failed,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Started, Self::Processing, Self::Compensating, Self::Completed, Self::Failed];

    /// Its name as stored: `processing`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Processing => "processing",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// From its stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// Whether steps are still being done, so that a cancel is in time.
    pub fn is_forward(self) -> bool {
        matches!(self, Self::Started | Self::Processing)
    }

    /// Whether nothing will happen any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a saga failed, or an attempt did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// For programs: `PAYMENT_DECLINED`.
    pub code: String,
    /// For people.
    pub detail: String,
}

impl Reason {
    /// The saga's own time ran out.
    pub const TIMED_OUT: &'static str = "TIMED_OUT";

    /// From its parts.
    pub fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// Where a saga stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// How far it is.
    pub phase: Phase,
    /// The step under way: being done, or being undone.
    pub step: usize,
    /// Whether an attempt of the step under way may have had its effect although nobody knows.
    pub uncertain: bool,
    /// An undo was refused; an operator must decide.
    pub parked: bool,
    /// Attempts of the step under way that ended unknown.
    pub attempt: u32,
    /// When the step under way began.
    pub step_since: DateTime<Utc>,
    /// Why it compensates or failed.
    pub reason: Option<Reason>,
}

impl State {
    /// Of a saga that begins now.
    pub fn new(now: DateTime<Utc>) -> Self {
        let phase = Phase::Started;
        Self { phase, step: 0, uncertain: false, parked: false, attempt: 0, step_since: now, reason: None }
    }
}

/// What happened to the step under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was done, or undone.
    Done,
    /// It will never be: the answer is final and it had no effect.
    Refused(Reason),
    /// It may have had its effect or not.
    Unknown(Reason),
    /// Nothing was tried: look whether it was cancelled or is too late.
    Look,
    /// An operator wants a parked undo tried again.
    Resume,
    /// An operator has undone a parked step by hand.
    Skip,
}

/// What else counts in a decision.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// The time.
    pub now: DateTime<Utc>,
    /// How many steps the saga has.
    pub steps: usize,
    /// How long the outcome of the step under way may stay unknown before the saga turns back.
    pub patience: TimeDelta,
    /// When the saga turns back unless its last step is done.
    pub expires: DateTime<Utc>,
    /// That somebody asked for its end, and why.
    pub cancelled: Option<Reason>,
}

/// What is to be told to the aggregate, in the transaction that records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This step is done; others follow.
    Done(usize),
    /// From now on it is taken back.
    Compensating(Reason),
    /// This step is undone; others follow.
    Undone(usize),
    /// The last step is done.
    Completed,
    /// Everything is taken back.
    Failed(Reason),
    /// The undo of this step was refused.
    Parked(usize, Reason),
}

/// The new state, and what changed if anything did; no change means to wait and try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where the saga stands now.
    pub state: State,
    /// What is to be told.
    pub change: Option<Change>,
}

/// Decides. Events that make no sense where the saga stands change nothing.
pub fn decide(state: &State, event: &Event, at: &Circumstances) -> Decision {
    match state.phase {
        Phase::Started | Phase::Processing => forward(state, event, at),
        Phase::Compensating => backward(state, event, at),
        Phase::Completed | Phase::Failed => same(state),
    }
}

fn forward(state: &State, event: &Event, at: &Circumstances) -> Decision {
    let last = state.step + 1 >= at.steps;
    let late = (at.now >= at.expires).then(|| Reason::new(Reason::TIMED_OUT, "the saga took too long"));
    // A cancel was promised to somebody, so it wins over every other reason.
    let stop = at.cancelled.clone().or(late.clone());
    match (event, stop) {
        (Event::Done, _) if last && at.cancelled.is_none() => {
            told(State { phase: Phase::Completed, uncertain: false, ..state.clone() }, Change::Completed)
        }
        (Event::Done, Some(reason)) => turn_back(state, Some(state.step), reason, at),
        (Event::Done, None) => told(begin(state, Phase::Processing, state.step + 1, at), Change::Done(state.step)),
        (Event::Refused(refusal), _) => {
            let reason = at.cancelled.clone().unwrap_or_else(|| refusal.clone());
            turn_back(state, touched(state), reason, at)
        }
        (Event::Unknown(reason), _) if planted!(UnknownTakenAsRefused) => {
            turn_back(state, state.step.checked_sub(1), reason.clone(), at)
        }
        (Event::Unknown(_), Some(reason)) => turn_back(state, Some(state.step), reason, at),
        (Event::Unknown(reason), None) if at.now - state.step_since >= at.patience => {
            turn_back(state, Some(state.step), reason.clone(), at)
        }
        (Event::Unknown(_), None) => waiting(State { uncertain: true, attempt: state.attempt.saturating_add(1), ..state.clone() }),
        (Event::Look, Some(reason)) => turn_back(state, touched(state), reason, at),
        (Event::Look, None) | (Event::Resume | Event::Skip, _) => same(state),
    }
}

fn backward(state: &State, event: &Event, at: &Circumstances) -> Decision {
    let parked = State { parked: true, ..state.clone() };
    match event {
        Event::Refused(_) if planted!(RefusedUndoTakenAsDone) => undone(state, at),
        Event::Unknown(_) if planted!(LostUndoTakenAsDone) => undone(state, at),
        Event::Done if !state.parked => undone(state, at),
        Event::Skip if state.parked => undone(&State { parked: false, ..state.clone() }, at),
        Event::Refused(reason) if !state.parked => told(parked, Change::Parked(state.step, reason.clone())),
        Event::Unknown(_) if !state.parked => waiting(State { attempt: state.attempt.saturating_add(1), ..state.clone() }),
        Event::Resume if state.parked => waiting(begin(state, Phase::Compensating, state.step, at)),
        _ => same(state),
    }
}

/// The highest step that may have had an effect when the one under way has just been refused or was not tried.
fn touched(state: &State) -> Option<usize> {
    if state.uncertain && !planted!(UncertainStepKept) { Some(state.step) } else { state.step.checked_sub(1) }
}

fn turn_back(state: &State, from: Option<usize>, reason: Reason, at: &Circumstances) -> Decision {
    let state = State { reason: Some(reason.clone()), ..state.clone() };
    let from = if planted!(UndoInForwardOrder) { from.and(Some(0)) } else { from };
    match from {
        Some(step) => told(begin(&state, Phase::Compensating, step, at), Change::Compensating(reason)),
        None => told(begin(&state, Phase::Failed, 0, at), Change::Failed(reason)),
    }
}

fn undone(state: &State, at: &Circumstances) -> Decision {
    let mut next = state.step.checked_sub(1);
    planted!(UndoInForwardOrder => next = Some(state.step + 1).filter(|next| *next < at.steps));
    match next {
        Some(next) => told(begin(state, Phase::Compensating, next, at), Change::Undone(state.step)),
        None => {
            let reason = state.reason.clone().unwrap_or_else(|| Reason::new("UNKNOWN", "no reason was recorded"));
            told(begin(state, Phase::Failed, 0, at), Change::Failed(reason))
        }
    }
}

fn begin(state: &State, phase: Phase, step: usize, at: &Circumstances) -> State {
    State { phase, step, uncertain: false, parked: false, attempt: 0, step_since: at.now, reason: state.reason.clone() }
}

fn told(state: State, change: Change) -> Decision {
    Decision { state, change: Some(change) }
}

fn waiting(state: State) -> Decision {
    Decision { state, change: None }
}

fn same(state: &State) -> Decision {
    Decision { state: state.clone(), change: None }
}
