//! The stock of every product as an event: for consumers that are new, or too late for what is kept.

use super::{SqlWarehouse, events::changed, rows};
use sinew_core::BoxFuture;
use sinew_events::{NewEvent, Owned, PublicationError};
use uuid::Uuid;

impl Owned for SqlWarehouse {
    fn page(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>> {
        Box::pin(async move {
            let mut tx = self.db.snapshot().await?;
            let now = sinew_sql::now(&*self.clock);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let stock = rows::stock_after(&mut tx, after.unwrap_or(Uuid::nil()), limit).await?;
            Ok(stock.iter().map(|stock| changed(stock, 0, now)).collect())
        })
    }
}
