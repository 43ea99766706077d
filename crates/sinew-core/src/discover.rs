//! The port through which the mesh learns who is there.

use crate::{Endpoint, ServiceName};
use std::{collections::BTreeMap, fmt, sync::Arc};
use tokio::sync::watch;

/// How far a [`Snapshot`] can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The registry has not answered yet: an empty list means nothing.
    Unknown,
    /// The registry's latest answer.
    Known,
    /// The registry is unreachable or its answer suspicious: these are the last good endpoints.
    Stale,
}

/// Everything known of one service at one moment. Endpoints, health and state change together, as one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// How far to trust it.
    pub state: State,
    /// All registered instances, failing ones included, in order of id.
    pub endpoints: Vec<Arc<Endpoint>>,
}

impl Snapshot {
    /// Before the first answer.
    pub fn unknown() -> Self {
        Self { state: State::Unknown, endpoints: Vec::new() }
    }

    /// The registry's answer; sorts by id so that equal answers are equal values.
    pub fn known(mut endpoints: Vec<Arc<Endpoint>>) -> Self {
        endpoints.sort_by(|a, b| a.id.cmp(&b.id));
        Self { state: State::Known, endpoints }
    }
}

/// Where endpoints come from.
pub trait Discover: fmt::Debug + Send + Sync {
    /// Follows one service. The receiver holds [`Snapshot::unknown`] until the first answer; a snapshot that equals
    /// the one before is not sent. The watch lives as long as a receiver does; receivers of one service share it.
    fn watch(&self, service: &ServiceName) -> watch::Receiver<Arc<Snapshot>>;
}

/// Endpoints written down by hand: for tests, benchmarks and services outside the registry.
#[derive(Debug, Default)]
pub struct FixedList {
    services: std::sync::Mutex<BTreeMap<ServiceName, watch::Sender<Arc<Snapshot>>>>,
}

impl FixedList {
    /// No services: every watch answers an empty, known list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the endpoints of a service; its watchers see the change at once.
    pub fn set(&self, service: &ServiceName, endpoints: Vec<Endpoint>) {
        let snapshot = Snapshot::known(endpoints.into_iter().map(Arc::new).collect());
        self.with(service, |sender| sender.send_replace(Arc::new(snapshot)));
    }

    fn with<R>(&self, service: &ServiceName, f: impl FnOnce(&watch::Sender<Arc<Snapshot>>) -> R) -> R {
        let mut services = self.services.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        f(services.entry(service.clone()).or_insert_with(|| watch::Sender::new(Arc::new(Snapshot::known(Vec::new())))))
    }
}

impl Discover for FixedList {
    fn watch(&self, service: &ServiceName) -> watch::Receiver<Arc<Snapshot>> {
        self.with(service, watch::Sender::subscribe)
    }
}
