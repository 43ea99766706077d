//! What a relay counts.

use sinew_core::stats::Registry;
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// The series of one publisher's relay. Gauges are set by the replica that relays.
#[derive(Debug)]
pub(super) struct Meter {
    /// The last position that the broker confirmed.
    position: Arc<AtomicI64>,
    /// Events that have a position and that the broker does not have.
    behind: Arc<AtomicI64>,
    /// Events that the broker confirmed.
    pub(super) published: Arc<AtomicU64>,
    /// Those of them that no queue wanted.
    pub(super) returned: Arc<AtomicU64>,
    /// Events that it refused, or that it lost with a connection before it confirmed them.
    pub(super) nacked: Arc<AtomicU64>,
}

/// While this replica relays.
#[derive(Debug)]
pub(super) struct Relaying<'a>(&'a Meter);

impl Drop for Relaying<'_> {
    fn drop(&mut self) {
        self.0.behind.store(0, Relaxed);
    }
}

impl Meter {
    pub(super) fn new(publisher: &str) -> Self {
        let registry = Registry::global();
        let labels = || vec![("publisher", publisher.to_owned())];
        Self {
            position: registry.gauge("events_relay_position", labels()),
            behind: registry.gauge("events_relay_behind", labels()),
            published: registry.counter("events_relay_published_total", labels()),
            returned: registry.counter("events_relay_returned_total", labels()),
            nacked: registry.counter("events_relay_nacked_total", labels()),
        }
    }

    pub(super) fn at(&self, position: i64, head: i64) {
        self.position.store(position, Relaxed);
        self.behind.store((head - position).max(0), Relaxed);
    }

    pub(super) fn relaying(&self) -> Relaying<'_> {
        Relaying(self)
    }
}
