//! One HTTP/2 connection to one endpoint.
//!
//! ```text
//!  dial ──▶ handshake ──▶ first PING answered ──▶ Ready ◀──▶ Suspect (a PING unanswered)
//!                                                  │  │          │
//!                              GOAWAY, or no longer │  └──────────┴──▶ lost (end of stream, reset, PING time-out)
//!                              wanted               ▼
//!                                                Draining ──▶ ended when its last stream has
//! ```
//!
//! `driver` walks that path in a task of the destination and reports; callers open streams in their own tasks
//! through [`Connection`], so that a unary call crosses no channel and no other task.

mod body;
mod driver;
mod paced;
mod pump;
mod stream;
mod tcp;

pub(crate) use body::Body;
pub(crate) use driver::{Event, Happened, Spec, run};
pub(crate) use stream::{Outgoing, Streaming};
pub use tcp::TcpConnector;

use crate::places::Places;
use bytes::Bytes;
use h2::client::SendRequest;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::sync::Notify;

/// A connection that has been ready: what callers use of it.
#[derive(Debug)]
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
    /// Streams open, counted by us: past the peer's limit h2 would queue unseen and without bound.
    streams: Places,
    /// The peer's `SETTINGS_MAX_CONCURRENT_STREAMS`, kept current by the driver.
    limit: AtomicUsize,
    /// Tells the driver that no new stream will be opened.
    retire: Arc<Notify>,
}

/// Leave to open one stream; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Connection>);

impl Connection {
    pub(crate) fn new(send: SendRequest<Bytes>, limit: usize) -> Self {
        Self { send, streams: Places::default(), limit: AtomicUsize::new(limit), retire: Arc::default() }
    }

    /// A place for one stream, if the peer allows another.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Slot> {
        self.streams.take(self.limit.load(Relaxed)).then(|| Slot(self.clone()))
    }

    /// Streams open now.
    pub(crate) fn streams(&self) -> usize {
        self.streams.taken()
    }

    /// No new streams: the connection ends when those it has do.
    pub(crate) fn retire(&self) {
        self.retire.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.streams.give_back();
    }
}
