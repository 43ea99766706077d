//! The domain's values as messages.

use crate::domain::{Payment, PaymentState, StateName};
use chrono::{DateTime, Utc};
use contracts::{payment::v1 as proto, r#type::v1::Money};
use prost_types::Timestamp;

pub(crate) fn payment(payment: &Payment) -> proto::Payment {
    let request = payment.request.as_ref();
    let amount = |money: crate::domain::Money| Money { amount: money.minor_units(), currency: money.currency().code().to_owned() };
    let (provider_reference, decline_reason) = match &payment.state {
        PaymentState::Charged { reference } => (reference.clone(), String::new()),
        PaymentState::Declined { reason } => (String::new(), reason.clone()),
        _ => Default::default(),
    };
    proto::Payment {
        payment_id: payment.id.0.to_string(),
        customer_id: request.map(|request| request.customer.0.to_string()).unwrap_or_default(),
        amount: request.map(|request| amount(request.money)),
        state: state(payment.state.name()).into(),
        decline_reason,
        version: payment.version,
        created_at: Some(timestamp(payment.created)),
        updated_at: Some(timestamp(payment.updated)),
        provider_reference,
    }
}

fn state(name: StateName) -> proto::PaymentState {
    match name {
        StateName::Pending => proto::PaymentState::Pending,
        StateName::Charged => proto::PaymentState::Charged,
        StateName::Declined => proto::PaymentState::Declined,
        StateName::Refunding => proto::PaymentState::Refunding,
        StateName::Refunded => proto::PaymentState::Refunded,
        StateName::Voided => proto::PaymentState::Voided,
    }
}

pub(super) fn state_name(state: proto::PaymentState) -> Option<StateName> {
    match state {
        proto::PaymentState::Unspecified => None,
        proto::PaymentState::Pending => Some(StateName::Pending),
        proto::PaymentState::Charged => Some(StateName::Charged),
        proto::PaymentState::Declined => Some(StateName::Declined),
        proto::PaymentState::Refunding => Some(StateName::Refunding),
        proto::PaymentState::Refunded => Some(StateName::Refunded),
        proto::PaymentState::Voided => Some(StateName::Voided),
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
