//! What the world is told of orders, in the transaction in which it happens.

use crate::{
    api::wire,
    domain::{FailureReason, Order, OrderState},
};
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

impl Kind {
    /// What the order's end was, if it has ended.
    pub(super) fn of(order: &Order) -> Option<Self> {
        match (order.state, &order.failure) {
            (OrderState::Completed, _) => Some(Self::Completed),
            (OrderState::Failed, Some((FailureReason::Cancelled, _))) => Some(Self::Cancelled),
            (OrderState::Failed, _) => Some(Self::Failed),
            (OrderState::Started | OrderState::Processing | OrderState::Compensating, _) => None,
        }
    }
}

/// Tells of an order whose row was just written: the order of the two keeps its events in order.
pub(super) async fn append(outbox: &Outbox, tx: &mut Tx, kind: Kind, order: &Order) -> Result<()> {
    outbox.append(tx, event(kind, order)).await
}

/// The event that says so.
pub(super) fn event(kind: Kind, order: &Order) -> NewEvent<'static> {
    let whole = Some(wire::order(order));
    let (id, version, at) = (order.id.0, order.version, order.updated);
    match kind {
        Kind::Placed => NewEvent::new(id, version, "order.placed", &OrderPlaced { order: whole }, at),
        Kind::Completed => NewEvent::new(id, version, "order.completed", &OrderCompleted { order: whole }, at),
        Kind::Failed => NewEvent::new(id, version, "order.failed", &OrderFailed { order: whole }, at),
        Kind::Cancelled => NewEvent::new(id, version, "order.cancelled", &OrderCancelled { order: whole }, at),
    }
}
