//! Effects exactly once, on top of deliveries and requests that come at least once.
//!
//! - [`Outbox`]: an event is written in the transaction of the change it tells of, so there is never one without the
//!   other. Delivery comes after the commit.
//! - [`Inbox`]: a consumer notes each event in the transaction of its effect, so a repeated delivery has none.
//! - [`idempotency`]: a request notes its key and answer in the transaction of its effect, so a repeat is answered the same.
//!
//! A service applies [`migrations`] to its own database before its own.

pub mod idempotency;

mod inbox;
mod outbox;
mod publication;
mod schema;

pub use inbox::Inbox;
pub use outbox::{Event, NewEvent, Outbox};
pub use publication::{Extent, Owned, Publication, PublicationError};
pub use schema::migrations;
