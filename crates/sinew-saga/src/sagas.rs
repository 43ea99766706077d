//! Starting, cancelling and looking at sagas.

use crate::{
    coordinator::Shared,
    definition::Data,
    machine::{Change, Circumstances, Event, Phase, Reason, State, decide},
    store::{self, Entry, Lease, LogEntry, NewSaga, Row, Update},
};
use chrono::{DateTime, TimeDelta, Utc};
use sinew_core::{Context, planted};
use sinew_sql::{Retry, Tx, retry};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// Why a saga could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such saga.
    #[error("there is no saga {0}")]
    NotFound(Uuid),
    /// Only parked sagas are resumed or skipped.
    #[error("saga {0} is not parked")]
    NotParked(Uuid),
    /// What the saga was to be started with cannot be stored, or not be read back.
    #[error("the data of saga {id} is not what this version expects")]
    Data {
        /// Which.
        id: Uuid,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] sinew_sql::Error),
}

impl Retry for Error {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Sql(error) if error.is_transient())
    }
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The saga will end failed.
    Accepted,
    /// It is being taken back already, for this or another reason.
    Compensating,
    /// It ended before.
    TooLate(Phase),
}

/// A saga as an operator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Saga {
    /// Its id.
    pub id: Uuid,
    /// Which definition it follows.
    pub kind: String,
    /// The definition's version when it began.
    pub version: i64,
    /// Where it stands.
    pub state: State,
    /// The name of the step under way; empty for steps this version does not know.
    pub step: &'static str,
    /// Which coordinator drives it.
    pub owner: Option<String>,
    /// How often it changed hands.
    pub epoch: i64,
    /// What it was started with, as JSON.
    pub data: serde_json::Value,
    /// What the steps answered when they were done, as JSON: names and answers, in the order of the steps.
    pub outputs: Vec<(String, serde_json::Value)>,
    /// What the last attempt said, while it is being tried again.
    pub last_error: Option<String>,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it was last written.
    pub updated: DateTime<Utc>,
}

/// Which sagas to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these.
    pub phase: Option<Phase>,
    /// Only those that wait for an operator.
    pub parked: bool,
}

/// The sagas of one kind in one database. Clones are cheap and share the coordinator.
pub struct Sagas<D> {
    shared: Arc<Shared<D>>,
}

impl<D> Clone for Sagas<D> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<D> fmt::Debug for Sagas<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sagas").field(&self.shared.definition).finish()
    }
}

impl<D: Data> Sagas<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared }
    }

    /// Begins a saga in the transaction that writes its aggregate: both or neither. This process's coordinator goes on
    /// with it right after the commit, or any replica's if this one is busy.
    pub async fn start(&self, tx: &mut Tx, id: Uuid, data: &D) -> Result<(), Error> {
        let data = serde_json::to_value(data).map_err(|source| Error::Data { id, source })?;
        let shared = &self.shared;
        let now = shared.now();
        // With a place of our own the row is born ours, which saves the transaction of claiming it.
        let place = shared.reserve_place();
        let new = NewSaga {
            id,
            kind: shared.definition.name,
            version: shared.definition.version.into(),
            traceparent: Context::current().trace.map(|trace| trace.to_string()),
            data,
            owner: place.is_some().then_some(&*shared.owner),
            due: if place.is_some() { now + shared.lease() } else { now },
            now,
        };
        let row = new.row();
        store::insert(tx, new).await?;
        let shared = shared.clone();
        tx.after_commit(move || match place {
            Some(place) => shared.born(row, place),
            None => shared.look.notify_one(),
        });
        Ok(())
    }

    /// Asks for the saga's end with `code` as its reason. Accepted means that it will not complete.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn cancel(&self, tx: &mut Tx, id: Uuid, code: &str) -> Result<CancelOutcome, Error> {
        let phase = store::cancel(tx, id, code).await?.ok_or(Error::NotFound(id))?;
        if phase.is_forward() {
            let shared = self.shared.clone();
            tx.after_commit(move || shared.poke(id));
        }
        Ok(match phase {
            Phase::Started | Phase::Processing => CancelOutcome::Accepted,
            Phase::Compensating => CancelOutcome::Compensating,
            Phase::Completed | Phase::Failed => CancelOutcome::TooLate(phase),
        })
    }

    /// One saga and its history.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get(&self, id: Uuid) -> Result<(Saga, Vec<LogEntry>), Error> {
        let mut tx = self.shared.db.snapshot().await?;
        let row = store::get(&mut tx, id).await?.ok_or(Error::NotFound(id))?;
        Ok((self.view(row), store::history(&mut tx, id).await?))
    }

    /// At most `limit` sagas older than `before`, newest first.
    pub async fn list(&self, filter: Filter, before: Option<Uuid>, limit: i64) -> Result<Vec<Saga>, Error> {
        let rows = store::list(&self.shared.db, filter.phase, filter.parked, before.unwrap_or(Uuid::max()), limit).await?;
        Ok(rows.into_iter().map(|row| self.view(row)).collect())
    }

    /// Tries the refused undo of a parked saga again. `note` goes into its history: who, and why. A repeat changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] and [`Error::NotParked`].
    pub async fn resume(&self, id: Uuid, note: &str) -> Result<Saga, Error> {
        self.unpark(id, None, note).await
    }

    /// Goes on as if the refused undo of this step had been done: an operator has done it by hand. A repeat changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], and [`Error::NotParked`] when it is not parked at this step.
    pub async fn skip(&self, id: Uuid, step: &str, note: &str) -> Result<Saga, Error> {
        self.unpark(id, Some(step), note).await
    }

    async fn unpark(&self, id: Uuid, skip: Option<&str>, note: &str) -> Result<Saga, Error> {
        let shared = &self.shared;
        let (event, word) = if skip.is_some() { (Event::Skip, "skipped") } else { (Event::Resume, "resumed") };
        retry(|| async {
            let mut tx = shared.db.begin().await?;
            let Some(row) = store::take_parked(&mut tx, id).await? else {
                let row = store::get(&mut tx, id).await?.ok_or(Error::NotFound(id))?;
                let done = store::history(&mut tx, id).await?;
                let repeat = done.iter().any(|entry| entry.event == word && skip.is_none_or(|step| step == entry.step));
                return if repeat { Ok(self.view(row)) } else { Err(Error::NotParked(id)) };
            };
            let step = shared.step_name(row.state().step);
            if skip.is_some_and(|skip| skip != step) {
                return Err(Error::NotParked(id));
            }
            let lease = Lease { id, epoch: row.epoch };
            let instance = shared.instance(&row)?;
            let now = shared.now();
            let decision = decide(&row.state(), &event, &shared.circumstances(&row, now));
            store::log(&mut tx, lease, Entry { at: now, step, event: word, detail: note }).await?;
            if let Some(change) = &decision.change {
                shared.definition.recorder.record(&mut tx, &instance, decision.state.phase, change).await?;
                let detail = change.detail();
                store::log(&mut tx, lease, Entry { at: now, step, event: change.name(), detail: &detail }).await?;
            }
            let due = (!decision.state.phase.is_terminal()).then_some(now);
            let update = Update { state: &decision.state, outputs: &instance.outputs, last_error: None, due, now };
            store::put(&mut tx, lease, update).await?;
            let row = store::get(&mut tx, id).await?.ok_or(Error::NotFound(id))?;
            let wake = shared.clone();
            tx.after_commit(move || wake.look.notify_one());
            tx.commit().await?;
            Ok(self.view(row))
        })
        .await
    }

    fn view(&self, row: Row) -> Saga {
        let state = row.state();
        let steps = &self.shared.definition.steps;
        let mut outputs: Vec<_> = row.outputs.0.into_iter().collect();
        // Those of steps that this version does not know come last.
        outputs.sort_by_key(|(name, _)| steps.iter().position(|planned| planned.name == name).unwrap_or(usize::MAX));
        Saga {
            id: row.saga_id,
            step: self.shared.step_name(state.step),
            state,
            kind: row.kind,
            version: row.version,
            owner: row.owner,
            epoch: row.epoch,
            data: row.data,
            outputs,
            last_error: row.last_error,
            started: row.started_at,
            updated: row.updated_at,
        }
    }
}

impl<D> Shared<D> {
    pub(crate) fn circumstances(&self, row: &Row, now: DateTime<Utc>) -> Circumstances {
        let timing = self.definition.timing_of(row.state().step);
        let delta = |d| TimeDelta::from_std(d).unwrap_or(TimeDelta::MAX);
        let cancel = row.cancel_code.clone().filter(|_| !planted!(CancelIgnored));
        Circumstances {
            now,
            steps: self.definition.steps.len(),
            patience: delta(timing.patience),
            expires: row.started_at + delta(timing.saga),
            cancelled: cancel.map(|code| Reason::new(code, "cancelled on request")),
        }
    }

    pub(crate) fn step_name(&self, step: usize) -> &'static str {
        self.definition.steps.get(step).map_or("", |planned| planned.name)
    }
}

impl Change {
    /// How the history calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Compensating(_) => "compensating",
            Self::Undone(_) => "undone",
            Self::Completed => "completed",
            Self::Failed(_) => "failed",
            Self::Parked(..) => "parked",
        }
    }

    /// Why, if there is a reason.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Compensating(reason) | Self::Failed(reason) | Self::Parked(_, reason) => reason.to_string(),
            Self::Done(_) | Self::Undone(_) | Self::Completed => String::new(),
        }
    }
}
