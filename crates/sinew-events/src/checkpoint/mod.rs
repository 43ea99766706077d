//! How far a follower is, and which replica may move it on.
//!
//! Two follow a publisher: its consumers' subscriptions, and the relay that hands its events to a broker. Both are one
//! replica of many, under a lease; every write carries the lease's epoch, so that one that froze and thaws after its lease
//! ended writes nothing (Kleppmann, Designing Data-Intensive Applications, ch. 8: fencing tokens).

mod sql;
mod tenure;

pub use sql::SqlCheckpoint;
pub(crate) use sql::{BUS, Name, Step};
pub use tenure::Tenure;
pub(crate) use tenure::jittered;

use sinew_core::BoxFuture;
use std::time::Duration;

/// The right to move on, and where things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Grows with each owner.
    pub epoch: i64,
    /// The last position that was reached; none at the very beginning.
    pub position: Option<i64>,
    /// Events up to here are in the snapshot that was taken last; 0 without one.
    pub floor: i64,
}

/// Where a follower got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The last position that was handled.
    pub position: i64,
    /// The newest position there is.
    pub head: i64,
}

/// A store that cannot answer now. Whoever asks tries again.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CheckpointError(Box<dyn std::error::Error + Send + Sync>);

impl CheckpointError {
    /// What the store says.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// Where one follower keeps its lease and its position: a row, or a key.
///
/// # Cancel safety
///
/// A call that is dropped may or may not have taken effect, as after a crash.
pub trait Checkpoint: std::fmt::Debug + Send + Sync + 'static {
    /// Takes the lease unless another holds one that has not ended; MUST draw a new epoch.
    fn claim<'a>(&'a self, owner: &'a str, lease: Duration) -> BoxFuture<'a, Result<Option<Lease>, CheckpointError>>;

    /// Keeps the lease for longer; false when the epoch is over.
    fn renew(&self, epoch: i64, lease: Duration) -> BoxFuture<'_, Result<bool, CheckpointError>>;

    /// Notes how far it got, and keeps the lease for longer; false, and nothing written, when the epoch is over.
    fn advance(&self, epoch: i64, reached: Reached, lease: Duration) -> BoxFuture<'_, Result<bool, CheckpointError>>;

    /// Notes why it does not get on, or that it does again.
    fn trouble<'a>(&'a self, epoch: i64, trouble: Option<&'a str>) -> BoxFuture<'a, Result<(), CheckpointError>>;

    /// Gives the lease back, so that another replica has it at once.
    fn release(&self, epoch: i64) -> BoxFuture<'_, Result<(), CheckpointError>>;
}
