//! Puts the service together: the same for production and for tests.

use crate::{
    Config,
    api::Api,
    infrastructure::{OpenError, Store},
};
use contracts::product::v1::product_service_server::ProductServiceServer;
use sinew_core::{Clock, Rng, SystemClock};
use sinew_events::{Checkpoint, Publication};
use std::sync::Arc;

/// The service, ready to be served: its store is open and migrated.
#[derive(Debug, Clone)]
pub struct App {
    store: Store,
}

impl App {
    /// Opens the store and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// An unreachable store or a failed migration; both name the thing and the way out.
    pub async fn build(config: Config) -> Result<Self, OpenError> {
        Ok(Self { store: Store::open(&config.store_url, Arc::new(SystemClock)).await? })
    }

    /// What answers the rpcs.
    pub fn api(&self) -> Api<Store> {
        Api::new(self.store.clone())
    }

    /// The gRPC service, to be added to a server.
    pub fn service(&self) -> ProductServiceServer<Api<Store>> {
        ProductServiceServer::new(self.api())
    }

    /// Where products are.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The service's events, to be delivered, and everything it owns.
    pub fn publication(&self) -> Arc<dyn Publication> {
        self.store.publication()
    }

    /// How far the events are handed to a broker, where there is one.
    pub fn checkpoint(&self, clock: &Arc<dyn Clock>) -> Arc<dyn Checkpoint> {
        self.store.checkpoint(clock)
    }

    /// Numbers events, and forgets old ones and old idempotency keys, for as long as it is polled. To be run beside the
    /// server.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any place.
    pub async fn upkeep(&self, clock: &dyn Clock, rng: &dyn Rng) {
        self.store.upkeep(clock, rng).await;
    }
}
