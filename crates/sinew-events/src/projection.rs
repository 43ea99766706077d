//! What a consumer makes of others' events.

use crate::Event;
use prost::Message;
use sinew_core::BoxFuture;
use sinew_sql::{Retry, Tx};
use std::fmt;

/// Why an event has no effect yet.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The consumer's own store failed; the event comes again.
    #[error(transparent)]
    Store(#[from] sinew_sql::Error),
    /// The payload is not what its kind says. The event is not passed over: it comes again until somebody acts.
    #[error("{kind} of {aggregate} at position {position} cannot be read: {reason}")]
    Malformed {
        /// The event's kind.
        kind: String,
        /// Whom it happened to.
        aggregate: uuid::Uuid,
        /// Where it is.
        position: i64,
        /// What is wrong.
        reason: String,
    },
}

impl ProjectionError {
    /// The event's payload breaks its contract.
    pub fn malformed(event: &Event, reason: impl fmt::Display) -> Self {
        Self::Malformed { kind: event.kind.clone(), aggregate: event.aggregate, position: event.pos, reason: reason.to_string() }
    }
}

impl Retry for ProjectionError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// Takes events in: a copy of what another owns, or whatever else follows from it.
pub trait Projection: fmt::Debug + Send + Sync + 'static {
    /// Takes one event in, in the transaction that notes that it was.
    ///
    /// An event of an older version than what is held MUST be dropped, and one of the same version MAY be written again:
    /// a snapshot repeats what is known. A kind that is not known MUST be passed over: publishers learn new words first.
    fn apply<'a>(&'a self, tx: &'a mut Tx, event: &'a Event) -> BoxFuture<'a, Result<(), ProjectionError>>;

    /// Takes several in at once, oldest first, with the same effect as one by one; `None`, the default, where there is no
    /// cheaper way. A consumer that catches up is as fast as its round trips to the database: this saves them.
    ///
    /// No trace is current in it, since each event has its own: whoever tells others of what follows keeps to `apply`.
    fn apply_all<'a>(&'a self, _tx: &'a mut Tx, _events: &'a [&'a Event]) -> Option<BoxFuture<'a, Result<(), ProjectionError>>> {
        None
    }
}

impl Event {
    /// The payload as the message that the event's kind names.
    ///
    /// # Errors
    ///
    /// [`ProjectionError::Malformed`].
    pub fn message<M: Message + Default>(&self) -> Result<M, ProjectionError> {
        M::decode(&*self.payload).map_err(|error| ProjectionError::malformed(self, error))
    }
}
