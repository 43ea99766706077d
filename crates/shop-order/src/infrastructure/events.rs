//! What the world is told of orders, in the transaction in which it happens.

use crate::{api::wire, domain::Order};
use contracts::order::v1::{OrderCancelled, OrderCompleted, OrderFailed, OrderPlaced};
use sinew_events::{NewEvent, Outbox};
use sinew_sql::{Result, Tx};

/// What happened to the order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Placed,
    Completed,
    Failed,
    Cancelled,
}

/// Tells of an order whose row was just written: the order of the two keeps its events in order.
pub(super) async fn append(outbox: &Outbox, tx: &mut Tx, kind: Kind, order: &Order) -> Result<()> {
    let whole = Some(wire::order(order));
    let (id, version, at) = (order.id.0, order.version, order.updated);
    let event = match kind {
        Kind::Placed => NewEvent::new(id, version, "order.placed", &OrderPlaced { order: whole }, at),
        Kind::Completed => NewEvent::new(id, version, "order.completed", &OrderCompleted { order: whole }, at),
        Kind::Failed => NewEvent::new(id, version, "order.failed", &OrderFailed { order: whole }, at),
        Kind::Cancelled => NewEvent::new(id, version, "order.cancelled", &OrderCancelled { order: whole }, at),
    };
    outbox.append(tx, event).await
}
