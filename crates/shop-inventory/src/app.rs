//! Puts the service together: the same for production and for tests.

use crate::{
    Config,
    api::Api,
    infrastructure::{SqlWarehouse, migrations},
};
use contracts::inventory::v1::inventory_service_server::InventoryServiceServer;
use sinew_core::{Clock, Rng, SystemClock};
use sinew_events::{Checkpoint, Outbox, Publication, SqlCheckpoint, SqlPublication, idempotency::keep_swept};
use sinew_sql::{DEFAULT_CONNECTIONS, Db, Error};
use std::sync::Arc;

/// The service, ready to be served: its store is open and migrated.
#[derive(Debug, Clone)]
pub struct App {
    db: Db,
    publication: SqlPublication,
    warehouse: SqlWarehouse,
}

impl App {
    /// Opens the store and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// An unreachable store or a failed migration; both name the thing and the way out.
    pub async fn build(config: Config) -> Result<Self, Error> {
        Self::build_with(config, Arc::new(SystemClock)).await
    }

    /// [`build`](Self::build), with a clock of its own.
    pub async fn build_with(config: Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let db = Db::open(&config.database_url, DEFAULT_CONNECTIONS).await?;
        db.migrate(&sinew_events::migrations()).await?;
        db.migrate(&migrations()).await?;
        let outbox = Outbox::default();
        let warehouse = SqlWarehouse::new(db.clone(), outbox.clone(), clock);
        let publication = SqlPublication::new(db.clone(), outbox, Arc::new(warehouse.clone()));
        Ok(Self { db, publication, warehouse })
    }

    /// What answers the rpcs.
    pub fn api(&self) -> Api<SqlWarehouse> {
        Api::new(self.warehouse.clone())
    }

    /// The gRPC service, to be added to a server.
    pub fn service(&self) -> InventoryServiceServer<Api<SqlWarehouse>> {
        InventoryServiceServer::new(self.api())
    }

    /// The service's events, to be delivered, and everything it owns.
    pub fn publication(&self) -> Arc<dyn Publication> {
        Arc::new(self.publication.clone())
    }

    /// How far the events are handed to a broker, where there is one.
    pub fn checkpoint(&self, clock: &Arc<dyn Clock>) -> Arc<dyn Checkpoint> {
        Arc::new(SqlCheckpoint::of_bus(self.db.clone(), "inventory", clock.clone()))
    }

    /// Numbers events, and forgets old ones and old idempotency keys, for as long as it is polled. To be run beside the
    /// server.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any place.
    pub async fn upkeep(&self, clock: &dyn Clock, rng: &dyn Rng) {
        tokio::join!(self.publication.run(clock, rng), keep_swept(&self.db, clock));
    }

    /// Its stock and reservations.
    pub fn warehouse(&self) -> &SqlWarehouse {
        &self.warehouse
    }

    /// The service's own database.
    pub fn db(&self) -> &Db {
        &self.db
    }
}
