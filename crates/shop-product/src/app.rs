//! Puts the service together: the same for production and for tests.

use crate::{
    Config,
    api::Api,
    infrastructure::{OpenError, Store},
};
use contracts::product::v1::product_service_server::ProductServiceServer;
use sinew_core::SystemClock;
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

    /// Where products are, with the events to be delivered.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
