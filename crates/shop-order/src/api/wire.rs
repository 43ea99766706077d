//! Orders as the contracts write them.

use crate::domain::{FailureReason, Money, Order, OrderLine, OrderState};
use chrono::{DateTime, Utc};
use contracts::{order::v1 as proto, r#type::v1 as types};
use prost_types::Timestamp;

/// An order.
pub(crate) fn order(order: &Order) -> proto::Order {
    let (reason, message) = match &order.failure {
        None => (proto::FailureReason::Unspecified, String::new()),
        Some((reason, message)) => (failure_reason(*reason), message.clone()),
    };
    proto::Order {
        order_id: order.id.0.to_string(),
        customer_id: order.customer.0.to_string(),
        customer_name: order.customer_name.clone(),
        lines: order.lines.iter().map(line).collect(),
        total: Some(money(order.total)),
        state: state(order.state).into(),
        failure_reason: reason.into(),
        failure_message: message,
        version: order.version,
        created_at: Some(timestamp(order.created)),
        updated_at: Some(timestamp(order.updated)),
    }
}

/// An amount.
pub(crate) fn money(money: Money) -> types::Money {
    types::Money { amount: money.amount, currency: money.currency.to_string() }
}

fn line(line: &OrderLine) -> proto::OrderLine {
    proto::OrderLine {
        product_id: line.product.0.to_string(),
        product_name: line.name.clone(),
        quantity: line.quantity,
        unit_price: Some(money(line.unit_price)),
    }
}

fn state(state: OrderState) -> proto::OrderState {
    match state {
        OrderState::Started => proto::OrderState::Started,
        OrderState::Processing => proto::OrderState::Processing,
        OrderState::Completed => proto::OrderState::Completed,
        OrderState::Compensating => proto::OrderState::Compensating,
        OrderState::Failed => proto::OrderState::Failed,
    }
}

fn failure_reason(reason: FailureReason) -> proto::FailureReason {
    match reason {
        FailureReason::InsufficientStock => proto::FailureReason::InsufficientStock,
        FailureReason::PaymentDeclined => proto::FailureReason::PaymentDeclined,
        FailureReason::Cancelled => proto::FailureReason::Cancelled,
        FailureReason::TimedOut => proto::FailureReason::TimedOut,
        FailureReason::Refused => proto::FailureReason::Refused,
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
