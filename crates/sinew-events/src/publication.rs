//! What a publisher has to give: its events in order, and everything it owns.

use crate::{Event, NewEvent};
use sinew_core::BoxFuture;
use std::fmt;
use uuid::Uuid;

/// How far a publication reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Events up to here are no longer kept; 0 when all are.
    pub floor: i64,
    /// The newest position; 0 when there is none.
    pub head: i64,
    /// Committed events that have no position yet.
    pub pending: i64,
}

/// A store that cannot answer now. Whoever asks tries again.
#[derive(Debug, thiserror::Error)]
#[error("the store of events cannot answer now")]
pub struct PublicationError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl From<sinew_sql::Error> for PublicationError {
    fn from(error: sinew_sql::Error) -> Self {
        Self(Box::new(error))
    }
}

/// The committed events of one service, with positions, and everything it owns. Any replica answers the same.
///
/// # Cancel safety
///
/// Every method only reads.
pub trait Publication: fmt::Debug + Send + Sync + 'static {
    /// How far it reaches.
    fn extent(&self) -> BoxFuture<'_, Result<Extent, PublicationError>>;

    /// At most `limit` events after position `after`, in order and without a gap.
    fn read(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, PublicationError>>;

    /// Returns soon after there may be something new to read since it was **called**, and now and then for nothing. Call it
    /// before [`read`](Self::read), and await it after a read that found nothing.
    fn changed(&self) -> BoxFuture<'_, ()>;

    /// Everything the publisher owns: see [`Owned::page`].
    fn owned(&self) -> &dyn Owned;
}

/// Everything a publisher owns, told as events: for consumers that are new, or too late for what is kept.
pub trait Owned: fmt::Debug + Send + Sync + 'static {
    /// At most `limit` aggregates whose id comes after `after`, in order of id; each as the event that would bring a
    /// consumer up to date, with the aggregate's present version. A page with fewer is the last.
    ///
    /// An aggregate that has nothing to tell is left out, so whoever makes a page reads on until it is full or there is no
    /// more.
    fn page(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>>;
}
