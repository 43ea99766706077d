//! What the world is told, in the transaction in which it happens.

use crate::{
    api::payment as wire,
    domain::{Error, Payment, PaymentState},
};
use contracts::payment::v1::{PaymentCharged, PaymentDeclined, PaymentRefunded};
use sinew_events::{NewEvent, Outbox};
use sinew_sql::Tx;

/// Tells where a payment has come to. To be called after the row was updated: that keeps a payment's events in order.
pub(super) async fn append(outbox: &Outbox, tx: &mut Tx, payment: &Payment) -> Result<(), Error> {
    match event(payment) {
        Some(event) => Ok(outbox.append(tx, event).await?),
        None => Ok(()),
    }
}

/// The event that says where a payment has come to, if that is news.
pub(super) fn event(payment: &Payment) -> Option<NewEvent<'static>> {
    let message = Some(wire(payment));
    let (id, version, time) = (payment.id.0, payment.version, payment.updated);
    match payment.state {
        PaymentState::Charged { .. } => {
            Some(NewEvent::new(id, version, "payment.charged", &PaymentCharged { payment: message }, time))
        }
        PaymentState::Declined { .. } => {
            Some(NewEvent::new(id, version, "payment.declined", &PaymentDeclined { payment: message }, time))
        }
        PaymentState::Refunded => Some(NewEvent::new(id, version, "payment.refunded", &PaymentRefunded { payment: message }, time)),
        // Not news yet, or no money ever moved.
        PaymentState::Pending | PaymentState::Refunding | PaymentState::Voided => None,
    }
}
