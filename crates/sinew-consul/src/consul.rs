//! The handle of one agent: what the mesh discovers and registers through.

use crate::{ApiError, Service, Settings, api::Api, catalogue, registrar, watch};
use sinew_core::{Discover, Register, Registered, Registration, ServiceName, Snapshot};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::{
    sync::watch::{Receiver, Sender},
    task::AbortHandle,
};

/// A Consul agent. Clones are cheap and share its watches, which end with the last clone.
#[derive(Clone)]
pub struct Consul {
    inner: Arc<Inner>,
}

/// A client that could not be built: an unreadable certificate, most likely.
#[derive(Debug, thiserror::Error)]
#[error("the client of Consul cannot be built")]
pub struct ConsulError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its version: `1.8.7`.
    pub version: String,
    /// Its node's name.
    pub node: String,
    /// Its datacenter.
    pub datacenter: String,
}

struct Inner {
    api: Arc<Api>,
    watches: Mutex<HashMap<ServiceName, Watched>>,
}

struct Watched {
    sender: Sender<Arc<Snapshot>>,
    task: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Consul {
    /// Builds the client; speaks to nobody yet.
    pub fn new(settings: Settings) -> Result<Self, ConsulError> {
        let api = Arc::new(Api::new(settings).map_err(ConsulError)?);
        Ok(Self { inner: Arc::new(Inner { api, watches: Mutex::default() }) })
    }

    /// Its address, for messages.
    pub fn address(&self) -> &str {
        self.inner.api.address()
    }

    /// Asks the agent who it is; with ACLs this needs `agent:read`. Fails after 8 s at the latest.
    pub async fn agent(&self) -> Result<AgentInfo, ApiError> {
        let config = self.inner.api.agent().await?.config;
        Ok(AgentInfo { version: config.version, node: config.node_name, datacenter: config.datacenter })
    }

    /// Every service with its instances: one query a service, for people rather than programs.
    pub async fn services(&self) -> Result<Vec<Service>, ApiError> {
        catalogue::services(&self.inner.api).await
    }
}

impl Inner {
    fn watches(&self) -> std::sync::MutexGuard<'_, HashMap<ServiceName, Watched>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discover for Consul {
    /// Must be called within a Tokio runtime.
    fn watch(&self, service: &ServiceName) -> Receiver<Arc<Snapshot>> {
        let mut watches = self.inner.watches();
        if let Some(watched) = watches.get(service) {
            return watched.sender.subscribe();
        }
        let (sender, receiver) = tokio::sync::watch::channel(Arc::new(Snapshot::unknown()));
        let task = tokio::spawn(run(Arc::downgrade(&self.inner), self.inner.api.clone(), service.clone(), sender.clone()));
        watches.insert(service.clone(), Watched { sender, task: task.abort_handle() });
        receiver
    }
}

/// Follows until nobody listens; under the lock of the map, so that a subscriber who comes meanwhile is not left behind.
async fn run(inner: Weak<Inner>, api: Arc<Api>, service: ServiceName, sender: Sender<Arc<Snapshot>>) {
    loop {
        watch::follow(api.clone(), service.clone(), sender.clone()).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut watches = inner.watches();
        if sender.receiver_count() == 0 {
            let ended = watches.remove(&service);
            drop(watches);
            drop(ended);
            return;
        }
    }
}

impl Register for Consul {
    fn register(&self, registration: Registration) -> Box<dyn Registered> {
        registrar::register(self.inner.api.clone(), &registration)
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul").field("address", &self.address()).finish_non_exhaustive()
    }
}
