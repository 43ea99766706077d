//! Orders on SQLite or PostgreSQL.

use super::{events, fault::Fault, rows};
use crate::domain::{Cancel, Error, FailureReason, Order, OrderId, OrderState, Orders, Page, Place, Purchase};
use sinew_core::{Clock, Rng, failpoint, planted};
use sinew_events::{
    Outbox,
    idempotency::{self, Claim, Fingerprint, Key},
};
use sinew_saga::{CancelOutcome, Sagas};
use sinew_sql::{Db, Tx, retry};
use std::sync::Arc;
use uuid::{Builder, Uuid};

/// Orders in a SQL database.
#[derive(Debug, Clone)]
pub struct SqlOrders {
    pub(super) db: Db,
    outbox: Outbox,
    sagas: Sagas<Purchase>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl SqlOrders {
    /// In this database, whose tables are there.
    pub fn new(db: Db, outbox: Outbox, sagas: Sagas<Purchase>, (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>)) -> Self {
        Self { db, outbox, sagas, clock, rng }
    }

    /// A new order's id: version 7, by our own clock and randomness.
    fn fresh(&self) -> OrderId {
        let millis = sinew_sql::now(&*self.clock).timestamp_millis().cast_unsigned();
        let (a, b) = (self.rng.next_u64().to_be_bytes(), self.rng.next_u64().to_be_bytes());
        let random = [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1]];
        OrderId(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The order that this wish is at the names and prices of now.
    async fn priced(&self, id: OrderId, wish: &Place) -> Result<Order, Fault> {
        let mut tx = self.db.snapshot().await?;
        let customer = rows::customer(&mut tx, wish.customer).await?.ok_or(Error::CustomerUnknown)?;
        let mut products = Vec::new();
        for line in wish.cart.lines() {
            products.extend(rows::product(&mut tx, line.product).await?);
        }
        Ok(wish.cart.price(id, &customer, &products, sinew_sql::now(&*self.clock))?)
    }

    async fn try_place(&self, id: OrderId, wish: &Place) -> Result<Order, Fault> {
        // Read before the key is claimed: SQLite's one writer should not be kept for reading.
        let priced = self.priced(id, wish).await;
        let caller = wish.customer.0.to_string();
        let key = Key { caller: &caller, key: &wish.key };
        let mut tx = self.db.begin().await?;
        match idempotency::claim(&mut tx, key, &fingerprint_of_place(wish), sinew_sql::now(&*self.clock)).await? {
            Claim::Repeat(first) => stored(&mut tx, &first).await,
            Claim::First => {
                planted!(KeyOutsideTransaction => { tx.commit().await?; tx = self.db.begin().await?; });
                let order = priced?;
                rows::insert(&mut tx, &order).await?;
                planted!(SagaOutsideTransaction => { tx.commit().await?; tx = self.db.begin().await?; });
                self.sagas.start(&mut tx, id.0, &Purchase::new(&order, &wish.payment_token)).await?;
                planted!(EventOutsideTransaction => { tx.commit().await?; tx = self.db.begin().await?; });
                events::append(&self.outbox, &mut tx, events::Kind::Placed, &order).await?;
                idempotency::answer(&mut tx, key, id.0.as_bytes()).await?;
                failpoint!("order.place.before_commit");
                tx.commit().await?;
                failpoint!("order.place.after_commit");
                Ok(order)
            }
        }
    }

    async fn try_cancel(&self, wish: &Cancel) -> Result<Order, Fault> {
        let caller = wish.caller.id.0.to_string();
        let key = Key { caller: &caller, key: &wish.key };
        let fingerprint = Fingerprint::of("CancelOrder", wish.order.0.as_bytes());
        let mut tx = self.db.begin().await?;
        let order = rows::order(&mut tx, wish.order).await?.ok_or(Error::NotFound)?;
        if !wish.caller.may_see(order.customer) {
            return Err(Error::Forbidden.into());
        }
        if let Claim::Repeat(first) = idempotency::claim(&mut tx, key, &fingerprint, sinew_sql::now(&*self.clock)).await? {
            return stored(&mut tx, &first).await;
        }
        let outcome = self.sagas.cancel(&mut tx, wish.order.0, FailureReason::CANCELLED).await?;
        // Read again: on PostgreSQL the saga may have ended it while we waited for its row.
        let order = rows::order(&mut tx, wish.order).await?.ok_or(Error::NotFound)?;
        let cancelled = matches!(order.failure, Some((FailureReason::Cancelled, _)));
        match outcome {
            CancelOutcome::Accepted => {}
            CancelOutcome::Compensating | CancelOutcome::TooLate(_) if cancelled => {}
            _ if order.state == OrderState::Completed => return Err(Error::Completed.into()),
            _ => return Err(Error::Failed.into()),
        }
        idempotency::answer(&mut tx, key, wish.order.0.as_bytes()).await?;
        failpoint!("order.cancel.before_commit");
        tx.commit().await?;
        failpoint!("order.cancel.after_commit");
        Ok(order)
    }
}

/// The order that a key was answered with, as it is now.
async fn stored(tx: &mut Tx, answer: &[u8]) -> Result<Order, Fault> {
    let id = Uuid::from_slice(answer).map_err(|error| Fault::Broken(error.into()))?;
    rows::order(tx, OrderId(id)).await?.ok_or(Fault::Refused(Error::NotFound))
}

/// Whether a repeat asks for the same: lines in their order, and the token.
fn fingerprint_of_place(wish: &Place) -> Fingerprint {
    let mut bytes = Vec::new();
    for line in wish.cart.lines() {
        bytes.extend_from_slice(line.product.0.as_bytes());
        bytes.extend_from_slice(&line.quantity.to_be_bytes());
    }
    bytes.extend_from_slice(wish.payment_token.as_bytes());
    Fingerprint::of("PlaceOrder", &bytes)
}

impl Orders for SqlOrders {
    async fn place(&self, wish: &Place) -> Result<Order, Error> {
        let id = self.fresh();
        Ok(retry(|| self.try_place(id, wish)).await?)
    }

    async fn get(&self, id: OrderId) -> Result<Order, Error> {
        let read = async { rows::order(&mut self.db.snapshot().await?, id).await };
        read.await.map_err(Fault::from)?.ok_or(Error::NotFound)
    }

    async fn list(&self, page: Page) -> Result<Vec<Order>, Error> {
        let read = async { rows::orders(&mut self.db.snapshot().await?, page).await };
        Ok(read.await.map_err(Fault::from)?)
    }

    async fn cancel(&self, wish: &Cancel) -> Result<Order, Error> {
        Ok(retry(|| self.try_cancel(wish)).await?)
    }
}
