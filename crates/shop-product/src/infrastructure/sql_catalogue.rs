//! The catalogue on SQLite or PostgreSQL.

use super::record::{Record, decode, encode, event, request_to_create, request_to_update};
use crate::domain::{Catalogue, Changes, Error, NewProduct, Page, Product, ProductId, Request};
use sinew_core::Clock;
use sinew_events::{
    Outbox,
    idempotency::{self, Claim, Fingerprint, Key},
};
use sinew_sql::{Db, Tx, retry};
use std::sync::Arc;
use uuid::Uuid;

/// Products in a SQL database.
#[derive(Debug, Clone)]
pub struct SqlCatalogue {
    db: Db,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
}

macro_rules! columns {
    () => {
        "product_id, title, description, minor_units, currency, version, created_at, updated_at"
    };
}

impl SqlCatalogue {
    /// On a migrated database; `outbox` wakes whoever delivers its events.
    pub fn new(db: Db, outbox: Outbox, clock: Arc<dyn Clock>) -> Self {
        Self { db, outbox, clock }
    }

    async fn try_create(&self, request: &Request, new: &NewProduct) -> Result<Product, Error> {
        let now = sinew_sql::now(&*self.clock);
        let key = Key { caller: &request.caller.0, key: &request.key };
        let fingerprint = Fingerprint::of("CreateProduct", &request_to_create(new));
        let mut tx = self.db.begin().await?;
        if let Claim::Repeat(answer) = idempotency::claim(&mut tx, key, &fingerprint, now).await? {
            return decode(&answer);
        }
        let product = Product::new(new, now);
        let sql = "INSERT INTO products
                     (product_id, title, description, minor_units, currency, version, created_at, updated_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";
        tx.q(sql)
            .bind(product.id.0)
            .bind(product.title.as_str())
            .bind(product.description.as_str())
            .bind(product.price.minor_units())
            .bind(product.price.currency().code())
            .bind(product.version)
            .bind(now)
            .run()
            .await?;
        self.finish(tx, key, product).await
    }

    async fn try_update(&self, request: &Request, id: ProductId, changes: &Changes) -> Result<Product, Error> {
        let now = sinew_sql::now(&*self.clock);
        let key = Key { caller: &request.caller.0, key: &request.key };
        let fingerprint = Fingerprint::of("UpdateProduct", &request_to_update(id, changes));
        let mut tx = self.db.begin().await?;
        if let Claim::Repeat(answer) = idempotency::claim(&mut tx, key, &fingerprint, now).await? {
            return decode(&answer);
        }
        let lock = (
            concat!("SELECT ", columns!(), " FROM products WHERE product_id = $1 FOR UPDATE"),
            concat!("SELECT ", columns!(), " FROM products WHERE product_id = $1"),
        );
        let before: Product = tx.q(lock).bind(id.0).opt::<Record>().await?.ok_or(Error::NotFound)?.try_into()?;
        let product = before.changed(changes, now)?;
        let sql = "UPDATE products SET title = $2, description = $3, minor_units = $4, currency = $5, version = $6,
                          updated_at = $7 WHERE product_id = $1";
        tx.q(sql)
            .bind(product.id.0)
            .bind(product.title.as_str())
            .bind(product.description.as_str())
            .bind(product.price.minor_units())
            .bind(product.price.currency().code())
            .bind(product.version)
            .bind(product.updated)
            .run()
            .await?;
        self.finish(tx, key, product).await
    }

    /// Tells of it, keeps the answer for repeats, commits.
    async fn finish(&self, mut tx: Tx, key: Key<'_>, product: Product) -> Result<Product, Error> {
        self.outbox.append(&mut tx, event(&product)).await?;
        idempotency::answer(&mut tx, key, &encode(&product)?).await?;
        tx.commit().await?;
        Ok(product)
    }
}

impl Catalogue for SqlCatalogue {
    async fn create(&self, request: &Request, product: &NewProduct) -> Result<Product, Error> {
        retry(|| self.try_create(request, product)).await
    }

    async fn update(&self, request: &Request, id: ProductId, changes: &Changes) -> Result<Product, Error> {
        retry(|| self.try_update(request, id, changes)).await
    }

    async fn get(&self, id: ProductId) -> Result<Product, Error> {
        let mut tx = self.db.snapshot().await?;
        let sql = concat!("SELECT ", columns!(), " FROM products WHERE product_id = $1");
        tx.q(sql).bind(id.0).opt::<Record>().await?.ok_or(Error::NotFound)?.try_into()
    }

    async fn list(&self, page: Page) -> Result<Vec<Product>, Error> {
        let mut tx = self.db.snapshot().await?;
        let sql = concat!("SELECT ", columns!(), " FROM products WHERE product_id > $1 ORDER BY product_id LIMIT $2");
        let after = page.after.map_or(Uuid::nil(), |id| id.0);
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        tx.q(sql).bind(after).bind(limit).all::<Record>().await?.into_iter().map(Product::try_from).collect()
    }
}

impl From<sinew_sql::Error> for Error {
    fn from(error: sinew_sql::Error) -> Self {
        if error.is_unavailable() { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

impl From<idempotency::Error> for Error {
    fn from(error: idempotency::Error) -> Self {
        match error {
            idempotency::Error::Reused => Self::KeyReused,
            idempotency::Error::Sql(error) => error.into(),
        }
    }
}

impl sinew_sql::Retry for Error {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(cause) if cause.downcast_ref::<sinew_sql::Error>().is_some_and(sinew_sql::Error::is_transient))
    }
}
