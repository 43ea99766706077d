//! The catalogue wherever its URL says it is.

use super::{RedisCatalogue, SqlCatalogue, migrations, redis_checkpoint::RedisCheckpoint};
use crate::domain::{Catalogue, Changes, Error, NewProduct, Page, Product, ProductId, Request};
use sinew_core::{Clock, Rng};
use sinew_events::{Checkpoint, Outbox, Publication, SqlCheckpoint, SqlPublication, idempotency::keep_swept};
use sinew_sql::{DEFAULT_CONNECTIONS, Db};
use std::sync::Arc;

/// One of the catalogues.
#[derive(Debug, Clone)]
pub enum Store {
    /// SQLite or PostgreSQL.
    Sql {
        /// The database.
        db: Db,
        /// Its events.
        publication: SqlPublication,
        /// Its products.
        catalogue: SqlCatalogue,
    },
    /// Redis.
    Redis(RedisCatalogue),
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database could not be opened or migrated.
    #[error(transparent)]
    Sql(#[from] sinew_sql::Error),
    /// Redis could not be reached.
    #[error("cannot open the product store; check that Redis runs at PRODUCT_STORE_URL")]
    Redis(#[source] Error),
}

impl Store {
    /// Opens `redis://…`, `postgres://…` or `sqlite://…`, and brings a database's schema up to date.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which names the thing and the way out.
    pub async fn open(url: &str, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        if url.starts_with("redis") {
            return RedisCatalogue::open(url, clock).await.map(Self::Redis).map_err(OpenError::Redis);
        }
        let db = Db::open(url, DEFAULT_CONNECTIONS).await?;
        db.migrate(&sinew_events::migrations()).await?;
        db.migrate(&migrations()).await?;
        let outbox = Outbox::default();
        let catalogue = SqlCatalogue::new(db.clone(), outbox.clone(), clock);
        let publication = SqlPublication::new(db.clone(), outbox, Arc::new(catalogue.clone()));
        Ok(Self::Sql { db, publication, catalogue })
    }

    /// The catalogue's events, to be delivered, and everything it owns.
    pub fn publication(&self) -> Arc<dyn Publication> {
        match self {
            Self::Sql { publication, .. } => Arc::new(publication.clone()),
            Self::Redis(catalogue) => Arc::new(catalogue.clone()),
        }
    }

    /// How far the events are handed to a broker, where there is one.
    pub fn checkpoint(&self, clock: &Arc<dyn Clock>) -> Arc<dyn Checkpoint> {
        match self {
            Self::Sql { db, .. } => Arc::new(SqlCheckpoint::of_bus(db.clone(), "product", clock.clone())),
            Self::Redis(catalogue) => Arc::new(RedisCheckpoint::new(catalogue, clock.clone())),
        }
    }

    /// What must go on beside the serving: see [`App::upkeep`](crate::App::upkeep).
    pub(crate) async fn upkeep(&self, clock: &dyn Clock, rng: &dyn Rng) {
        match self {
            Self::Sql { db, publication, .. } => {
                tokio::join!(publication.run(clock, rng), keep_swept(db, clock));
            }
            Self::Redis(catalogue) => catalogue.keep_forgetting(clock).await,
        }
    }
}

impl Catalogue for Store {
    async fn create(&self, request: &Request, product: &NewProduct) -> Result<Product, Error> {
        match self {
            Self::Sql { catalogue, .. } => catalogue.create(request, product).await,
            Self::Redis(catalogue) => catalogue.create(request, product).await,
        }
    }

    async fn update(&self, request: &Request, id: ProductId, changes: &Changes) -> Result<Product, Error> {
        match self {
            Self::Sql { catalogue, .. } => catalogue.update(request, id, changes).await,
            Self::Redis(catalogue) => catalogue.update(request, id, changes).await,
        }
    }

    async fn get(&self, id: ProductId) -> Result<Product, Error> {
        match self {
            Self::Sql { catalogue, .. } => catalogue.get(id).await,
            Self::Redis(catalogue) => catalogue.get(id).await,
        }
    }

    async fn list(&self, page: Page) -> Result<Vec<Product>, Error> {
        match self {
            Self::Sql { catalogue, .. } => catalogue.list(page).await,
            Self::Redis(catalogue) => catalogue.list(page).await,
        }
    }
}
