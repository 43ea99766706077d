//! What a subscription counts.

use chrono::{DateTime, Utc};
use sinew_core::stats::Registry;
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use crate::checkpoint::Name;

/// The series of one subscription. Gauges are set by the replica that follows.
#[derive(Debug)]
pub(super) struct Meter {
    /// Events that the publisher has and we have not.
    behind: Arc<AtomicI64>,
    /// From an event's happening to its effect here, the last one's, in milliseconds.
    delay: Arc<AtomicI64>,
    pub(super) applied: Arc<AtomicU64>,
    pub(super) repeated: Arc<AtomicU64>,
    pub(super) snapshots: Arc<AtomicU64>,
    pub(super) takeovers: Arc<AtomicU64>,
    pub(super) fenced: Arc<AtomicU64>,
    /// Events that could not be read and were put aside by the broker.
    pub(super) rejected: Arc<AtomicU64>,
}

/// While this replica follows; when it no longer does, another one tells how far it is.
#[derive(Debug)]
pub(super) struct Following<'a>(&'a Meter);

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.behind.store(0, Relaxed);
        self.0.delay.store(0, Relaxed);
    }
}

impl Meter {
    pub(super) fn new(name: &Name) -> Self {
        let registry = Registry::global();
        let labels = || vec![("consumer", name.consumer.clone()), ("publisher", name.publisher.clone())];
        Self {
            behind: registry.gauge("events_behind", labels()),
            delay: registry.gauge("events_delay_milliseconds", labels()),
            applied: registry.counter("events_applied_total", labels()),
            repeated: registry.counter("events_repeated_total", labels()),
            snapshots: registry.counter("event_snapshots_total", labels()),
            takeovers: registry.counter("event_takeovers_total", labels()),
            fenced: registry.counter("event_fenced_writes_total", labels()),
            rejected: registry.counter("events_rejected_total", labels()),
        }
    }

    pub(super) fn at(&self, position: i64, head: i64) {
        self.behind.store((head - position).max(0), Relaxed);
    }

    pub(super) fn delayed(&self, happened: DateTime<Utc>, now: DateTime<Utc>) {
        self.delay.store((now - happened).num_milliseconds().max(0), Relaxed);
    }

    /// This replica follows, until what is answered is dropped.
    pub(super) fn following(&self) -> Following<'_> {
        Following(self)
    }
}
