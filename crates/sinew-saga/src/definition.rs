//! What a saga does: its steps, and whom it tells.

use crate::machine::{Change, Phase, Reason};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sinew_core::{BoxFuture, classify::Code};
use sinew_sql::Tx;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use uuid::Uuid;

/// What a saga can be started with, and what a step can answer: it is stored as JSON.
pub trait Data: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Data for T {}

/// One saga as its steps see it.
#[derive(Debug, Clone)]
pub struct Instance<D> {
    /// Its id, which participants dedup by.
    pub id: Uuid,
    /// What it was started with.
    pub data: Arc<D>,
    pub(crate) outputs: Outputs,
}

/// What steps answered, by their names.
pub(crate) type Outputs = BTreeMap<String, Value>;

/// What a step answered cannot be read by this version of it.
#[derive(Debug, thiserror::Error)]
#[error("what step {step} answered cannot be read: {source}")]
pub struct OutputError {
    step: &'static str,
    source: serde_json::Error,
}

impl<D> Instance<D> {
    /// What this step answered when it was done; `None` before, and where a version that kept no answers did it. It stays when
    /// the step is undone.
    ///
    /// # Errors
    ///
    /// [`OutputError`] when another version of the step wrote what this one does not understand.
    pub fn output<S: Step<D>>(&self) -> Result<Option<S::Output>, OutputError> {
        let Some(output) = self.outputs.get(S::NAME) else { return Ok(None) };
        serde_json::from_value(output.clone()).map(Some).map_err(|source| OutputError { step: S::NAME, source })
    }
}

impl From<OutputError> for Failure {
    /// Tried again, as long as an unknown outcome may be: a replica of the right version may come.
    fn from(error: OutputError) -> Self {
        Self::Unknown(Reason::new("UNREADABLE_OUTPUT", error.to_string()))
    }
}

/// Why a step was not done, or not undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The answer is final and there was no effect: turn back.
    Refused(Reason),
    /// There may have been an effect: try again.
    Unknown(Reason),
}

impl Failure {
    /// What a gRPC status says about the effect. Codes that a server sends after deciding are final; those that a mesh or
    /// a server in trouble sends are not, ABORTED and RESOURCE_EXHAUSTED included: they ask for another try.
    pub fn from_code(code: Code, reason: Reason) -> Self {
        match code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Self::Refused(reason),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Unknown(reason),
        }
    }
}

/// What one step does elsewhere and how that is taken back.
///
/// Both are called at least once: by one coordinator after another's death, or again after an unknown outcome. The
/// participant makes repeats harmless by the saga's id, accepts an undo of what it never did, and refuses a do that
/// arrives after its undo. Deadline and trace of the call are set around both.
pub trait Step<D>: Send + Sync {
    /// A word for logs, metrics, failpoints and the stored output: `reserve`. One of its kind in a definition.
    const NAME: &'static str;

    /// What the participant answers that later steps, the undo or an operator need: [`Instance::output`] gives it to them.
    /// Stored in the transaction that records the step as done, so a value that cannot become JSON is an unknown outcome.
    type Output: Data;

    /// Has the effect. That of a step which is done by its record alone is `Ok(())`.
    fn act<'a>(&'a self, saga: &'a Instance<D>) -> BoxFuture<'a, Result<Self::Output, Failure>>;

    /// Takes the effect back. [`Failure::Refused`] parks the saga for an operator.
    fn undo<'a>(&'a self, _saga: &'a Instance<D>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}

/// The aggregate that the saga is about, told of each change in the transaction that records it.
pub trait Recorder<D>: Send + Sync {
    /// Writes what the change means for the aggregate, and its event. May run several times before one commit.
    fn record<'a>(
        &'a self,
        tx: &'a mut Tx,
        saga: &'a Instance<D>,
        phase: Phase,
        change: &'a Change,
    ) -> BoxFuture<'a, sinew_sql::Result<()>>;
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Each attempt of a step. 2 s: long beside a call of some milliseconds, short beside `patience`.
    pub attempt: Duration,
    /// How long a step's outcome may stay unknown before the saga turns back. 15 s: a participant that was killed has
    /// been restarted by then.
    pub patience: Duration,
    /// The way forward as a whole. 60 s: nobody waits longer for an order.
    pub saga: Duration,
    /// The wait after the first unknown outcome, doubled after each and halved at random. 100 ms: the mesh has retried
    /// before, so at once would be too soon.
    pub backoff: Duration,
    /// The longest wait. 5 s: undos are retried for ever, and participants come back at any time.
    pub backoff_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(2),
            patience: Duration::from_secs(15),
            saga: Duration::from_secs(60),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
        }
    }
}

/// What one step takes its time with; what is `None` is as in the definition's [`Timing`].
#[derive(Debug, Clone, Copy, Default)]
pub struct StepTiming {
    /// Each attempt.
    pub attempt: Option<Duration>,
    /// How long its outcome may stay unknown.
    pub patience: Option<Duration>,
    /// The wait after the first unknown outcome.
    pub backoff: Option<Duration>,
    /// The longest wait.
    pub backoff_max: Option<Duration>,
}

/// A kind of saga: ordered steps, the aggregate they serve, and timing.
pub struct Definition<D> {
    pub(crate) name: &'static str,
    pub(crate) version: i32,
    pub(crate) steps: Vec<Planned<D>>,
    pub(crate) recorder: Box<dyn Recorder<D>>,
    pub(crate) timing: Timing,
}

/// A step whose output is JSON already.
pub(crate) trait AnyStep<D>: Send + Sync {
    fn act<'a>(&'a self, saga: &'a Instance<D>) -> BoxFuture<'a, Result<Value, Failure>>;
    fn undo<'a>(&'a self, saga: &'a Instance<D>) -> BoxFuture<'a, Result<(), Failure>>;
}

impl<D: Data, S: Step<D>> AnyStep<D> for S {
    fn act<'a>(&'a self, saga: &'a Instance<D>) -> BoxFuture<'a, Result<Value, Failure>> {
        let done = Step::act(self, saga);
        Box::pin(async move {
            let unwritable = |why: String| Failure::Unknown(Reason::new("UNWRITABLE_OUTPUT", why));
            let output = serde_json::to_value(done.await?).map_err(|error| unwritable(error.to_string()))?;
            if has_nul(&output) { Err(unwritable("a text with a NUL".into())) } else { Ok(output) }
        })
    }

    fn undo<'a>(&'a self, saga: &'a Instance<D>) -> BoxFuture<'a, Result<(), Failure>> {
        Step::undo(self, saga)
    }
}

/// PostgreSQL stores none of those in jsonb.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A step, its name, and those of its places to die, made once.
pub(crate) struct Planned<D> {
    pub(crate) name: &'static str,
    pub(crate) step: Box<dyn AnyStep<D>>,
    timing: StepTiming,
    pub(crate) act: Boundaries,
    pub(crate) undo: Boundaries,
}

/// The places around one call where a crash means something different each time.
#[derive(Debug, Clone)]
pub(crate) struct Boundaries {
    pub(crate) before_call: String,
    pub(crate) after_call: String,
    pub(crate) before_commit: String,
    pub(crate) after_commit: String,
}

impl Boundaries {
    fn new(saga: &str, step: &str) -> Self {
        let name = |place| format!("{saga}.saga.{step}.{place}");
        Self {
            before_call: name("before_call"),
            after_call: name("after_call"),
            before_commit: name("before_commit"),
            after_commit: name("after_commit"),
        }
    }

    fn names(&self) -> [String; 4] {
        [&self.before_call, &self.after_call, &self.before_commit, &self.after_commit].map(Clone::clone)
    }
}

/// Every place around the calls of one step where `SINEW_FAILPOINT` may end the process: `order.saga.reserve.before_call`,
/// `.after_call`, `.before_commit`, `.after_commit`, and the same with `.undo` after the step.
pub fn failpoints(saga: &str, step: &str) -> Vec<String> {
    let [act, undo] = both(saga, step);
    [act.names(), undo.names()].into_iter().flatten().collect()
}

fn both(saga: &str, step: &str) -> [Boundaries; 2] {
    [Boundaries::new(saga, step), Boundaries::new(saga, &format!("{step}.undo"))]
}

impl<D: Data> Definition<D> {
    /// A saga without steps yet; `name` tells kinds of sagas apart in one database and begins the failpoints' names.
    pub fn new(name: &'static str, recorder: impl Recorder<D> + 'static) -> Self {
        Self { name, version: 1, steps: Vec::new(), recorder: Box::new(recorder), timing: Timing::default() }
    }

    /// Adds the next step.
    #[must_use]
    pub fn step(self, step: impl Step<D> + 'static) -> Self {
        self.step_in(StepTiming::default(), step)
    }

    /// Adds the next step, which takes its own time.
    #[must_use]
    pub fn step_in<S: Step<D> + 'static>(mut self, timing: StepTiming, step: S) -> Self {
        let [act, undo] = both(self.name, S::NAME);
        self.steps.push(Planned { name: S::NAME, step: Box::new(step), timing, act, undo });
        self
    }

    /// Counts changes of the steps, from 1; recorded with each saga.
    #[must_use]
    pub fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    /// Other times than the defaults.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }
}

impl<D> Definition<D> {
    /// The times of one step; those of all for steps that this version does not know.
    pub(crate) fn timing_of(&self, step: usize) -> Timing {
        let own = self.steps.get(step).map_or_else(StepTiming::default, |planned| planned.timing);
        Timing {
            attempt: own.attempt.unwrap_or(self.timing.attempt),
            patience: own.patience.unwrap_or(self.timing.patience),
            backoff: own.backoff.unwrap_or(self.timing.backoff),
            backoff_max: own.backoff_max.unwrap_or(self.timing.backoff_max),
            saga: self.timing.saga,
        }
    }

    /// The boundary that tests freeze together with a task's: a frozen process renews nothing.
    pub(crate) fn renewal(&self) -> String {
        format!("{}.saga.renew", self.name)
    }

    /// The [`failpoints`] of all steps.
    pub fn failpoints(&self) -> Vec<String> {
        self.steps.iter().flat_map(|planned| [planned.act.names(), planned.undo.names()]).flatten().collect()
    }
}

impl<D> fmt::Debug for Definition<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(|planned| planned.name).collect();
        f.debug_struct("Definition").field("name", &self.name).field("steps", &steps).finish_non_exhaustive()
    }
}
