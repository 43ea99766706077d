//! Effects exactly once, on top of deliveries and requests that come at least once.
//!
//! - [`Outbox`]: an event is written in the transaction of the change it tells of, so there is never one without the
//!   other. Delivery comes after the commit.
//! - [`Publication`] and [`EventsServer`]: committed events get positions and are streamed to whoever follows them.
//! - [`Subscription`]: one replica of a consumer follows a publisher, and a [`Projection`] takes its events in.
//! - [`Checkpoint`] and [`Tenure`]: one replica of many follows, and one that froze cannot write when it thaws.
//! - [`Inbox`]: a consumer notes each event in the transaction of its effect, so a repeated delivery has none.
//! - [`idempotency`]: a request notes its key and answer in the transaction of its effect, so a repeat is answered the same.
//!
//! A service applies [`migrations`] to its own database before its own.

pub mod idempotency;

mod checkpoint;
mod envelope;
mod feed;
mod inbox;
mod outbox;
mod projection;
mod publication;
mod schema;
mod server;
mod sql_publication;
mod subscription;

pub use checkpoint::{Checkpoint, CheckpointError, Lease, Reached, SqlCheckpoint, Tenure};
pub use envelope::EnvelopeError;
pub use feed::{Batch, Batches, Feed, FeedError, MeshFeed, Page, Receipt};
pub use inbox::Inbox;
pub use outbox::{Event, NewEvent, Outbox};
pub use projection::{Projection, ProjectionError};
pub use publication::{Extent, Owned, Publication, PublicationError};
pub use schema::migrations;
pub use server::EventsServer;
pub use sql_publication::SqlPublication;
pub use subscription::{Subscription, SubscriptionConfig, SubscriptionStatus, SubscriptionsAdmin};
