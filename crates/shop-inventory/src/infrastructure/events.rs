//! What the world is told, in the transaction in which it happens.
//!
//! A product's stock is the aggregate and its version the event's, so that a consumer that sees an older one drops it.

use crate::{
    api::stock as wire,
    domain::{Error, ReservationId, Stock},
};
use chrono::{DateTime, Utc};
use contracts::inventory::v1::{StockChanged, StockReleased, StockReserved};
use sinew_events::{NewEvent, Outbox};
use sinew_sql::Tx;

/// Tells of changes of stock. To be called after the row was updated: that keeps a product's events in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Events {
    pub(super) outbox: Outbox,
}

impl Events {
    /// `quantity` of it was promised.
    pub(super) async fn reserved(
        &self,
        tx: &mut Tx,
        stock: &Stock,
        to: ReservationId,
        quantity: i64,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let message = StockReserved { stock: Some(wire(stock)), reservation_id: to.0.to_string(), quantity };
        self.append(tx, stock, "stock.reserved", &message, now).await
    }

    /// `quantity` of it is no longer promised.
    pub(super) async fn released(
        &self,
        tx: &mut Tx,
        stock: &Stock,
        by: ReservationId,
        quantity: i64,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let message = StockReleased { stock: Some(wire(stock)), reservation_id: by.0.to_string(), quantity };
        self.append(tx, stock, "stock.released", &message, now).await
    }

    /// There is more or less of it.
    pub(super) async fn changed(&self, tx: &mut Tx, stock: &Stock, delta: i64, now: DateTime<Utc>) -> Result<(), Error> {
        Ok(self.outbox.append(tx, changed(stock, delta, now)).await?)
    }

    async fn append(
        &self,
        tx: &mut Tx,
        stock: &Stock,
        kind: &str,
        message: &impl prost::Message,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let event = NewEvent::new(stock.product.0, stock.version, kind, message, now);
        Ok(self.outbox.append(tx, event).await?)
    }
}

/// The event that says that there is more or less of it.
pub(super) fn changed(stock: &Stock, delta: i64, now: DateTime<Utc>) -> NewEvent<'static> {
    let message = StockChanged { stock: Some(wire(stock)), delta };
    NewEvent::new(stock.product.0, stock.version, "stock.changed", &message, now)
}
