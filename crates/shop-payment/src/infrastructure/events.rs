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
    let message = Some(wire(payment));
    let (id, version, time) = (payment.id.0, payment.version, payment.updated);
    let event = match payment.state {
        PaymentState::Charged { .. } => NewEvent::new(id, version, "payment.charged", &PaymentCharged { payment: message }, time),
        PaymentState::Declined { .. } => {
            NewEvent::new(id, version, "payment.declined", &PaymentDeclined { payment: message }, time)
        }
        PaymentState::Refunded => NewEvent::new(id, version, "payment.refunded", &PaymentRefunded { payment: message }, time),
        // Not news yet, or no money ever moved.
        PaymentState::Pending | PaymentState::Refunding | PaymentState::Voided => return Ok(()),
    };
    Ok(outbox.append(tx, event).await?)
}
