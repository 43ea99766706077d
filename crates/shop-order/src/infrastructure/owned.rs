//! Every order as an event: for consumers that are new, or too late for what is kept.

use super::{
    SqlOrders,
    events::{Kind, event},
    rows,
};
use crate::domain::OrderId;
use sinew_core::BoxFuture;
use sinew_events::{NewEvent, Owned, PublicationError};
use uuid::Uuid;

impl Owned for SqlOrders {
    fn page(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>> {
        Box::pin(async move {
            let mut tx = self.db.snapshot().await?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let orders = rows::orders_after(&mut tx, OrderId(after.unwrap_or(Uuid::nil())), limit).await?;
            Ok(orders.iter().map(|order| event(Kind::of(order).unwrap_or(Kind::Placed), order)).collect())
        })
    }
}
