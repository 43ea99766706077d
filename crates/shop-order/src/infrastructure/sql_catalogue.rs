//! The copies of users and products on SQLite or PostgreSQL.

use super::{fault::Fault, rows};
use crate::domain::{Catalogue, Customer, Error, Product};
use sinew_sql::{Db, retry};

/// Copies in a SQL database.
#[derive(Debug, Clone)]
pub struct SqlCatalogue {
    db: Db,
}

impl SqlCatalogue {
    /// In this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }
}

impl Catalogue for SqlCatalogue {
    async fn put_customer(&self, customer: &Customer) -> Result<(), Error> {
        let put = retry(|| async {
            let mut tx = self.db.begin().await?;
            rows::put_customers(&mut tx, [customer.clone()]).await?;
            tx.commit().await
        });
        put.await.map_err(|error| Fault::from(error).into())
    }

    async fn put_product(&self, product: &Product) -> Result<(), Error> {
        let put = retry(|| async {
            let mut tx = self.db.begin().await?;
            rows::put_products(&mut tx, [product.clone()]).await?;
            tx.commit().await
        });
        put.await.map_err(|error| Fault::from(error).into())
    }
}
