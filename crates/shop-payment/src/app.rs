//! Puts the service together: the same for production and for tests.

use crate::{
    Config,
    api::Api,
    domain::Cashier,
    infrastructure::{EmbeddedProvider, SqlBooks, migrations, provider_migrations},
};
use contracts::payment::v1::payment_service_server::PaymentServiceServer;
use sinew_core::{Clock, Rng, SystemClock};
use sinew_events::{Checkpoint, Outbox, Publication, SqlCheckpoint, SqlPublication, idempotency::keep_swept};
use sinew_sql::{DEFAULT_CONNECTIONS, Db, Error};
use std::sync::Arc;

/// The service, ready to be served: its stores are open and migrated.
#[derive(Debug, Clone)]
pub struct App {
    db: Db,
    publication: SqlPublication,
    cashier: Arc<Cashier<SqlBooks, EmbeddedProvider>>,
}

impl App {
    /// Opens the store and the provider's ledger and brings their schemas up to date.
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
        let ledger = Db::open(&config.provider_url, DEFAULT_CONNECTIONS).await?;
        ledger.migrate(&provider_migrations()).await?;
        let outbox = Outbox::default();
        let books = SqlBooks::new(db.clone(), outbox.clone(), clock.clone());
        let publication = SqlPublication::new(db.clone(), outbox, Arc::new(books.clone()));
        let cashier = Cashier::new(books, EmbeddedProvider::new(ledger, clock.clone()), clock);
        Ok(Self { db, publication, cashier: Arc::new(cashier) })
    }

    /// What answers the rpcs.
    pub fn api(&self) -> Api<SqlBooks, EmbeddedProvider> {
        Api::new(self.cashier.clone())
    }

    /// The gRPC service, to be added to a server.
    pub fn service(&self) -> PaymentServiceServer<Api<SqlBooks, EmbeddedProvider>> {
        PaymentServiceServer::new(self.api())
    }

    /// The service's events, to be delivered, and everything it owns.
    pub fn publication(&self) -> Arc<dyn Publication> {
        Arc::new(self.publication.clone())
    }

    /// How far the events are handed to a broker, where there is one.
    pub fn checkpoint(&self, clock: &Arc<dyn Clock>) -> Arc<dyn Checkpoint> {
        Arc::new(SqlCheckpoint::of_bus(self.db.clone(), "payment", clock.clone()))
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

    /// The service's own database.
    pub fn db(&self) -> &Db {
        &self.db
    }
}
