//! The domain's values as messages.

use crate::domain::{Reservation, StateName, Stock};
use chrono::{DateTime, Utc};
use contracts::inventory::v1 as proto;
use prost_types::Timestamp;

pub(crate) fn stock(stock: &Stock) -> proto::Stock {
    proto::Stock {
        product_id: stock.product.0.to_string(),
        on_hand: stock.on_hand,
        reserved: stock.reserved,
        available: stock.available(),
        version: stock.version,
    }
}

pub(super) fn reservation(reservation: &Reservation) -> proto::Reservation {
    let line =
        |line: crate::domain::Line| proto::ReservationLine { product_id: line.product.0.to_string(), quantity: line.quantity };
    proto::Reservation {
        reservation_id: reservation.id.0.to_string(),
        state: state(reservation.state.name()).into(),
        lines: reservation.lines.iter().map(line).collect(),
        created_at: Some(timestamp(reservation.created)),
        updated_at: Some(timestamp(reservation.updated)),
    }
}

pub(super) fn state(name: StateName) -> proto::ReservationState {
    match name {
        StateName::Reserved => proto::ReservationState::Reserved,
        StateName::Refused => proto::ReservationState::Refused,
        StateName::Released => proto::ReservationState::Released,
    }
}

pub(super) fn state_name(state: proto::ReservationState) -> Option<StateName> {
    match state {
        proto::ReservationState::Unspecified => None,
        proto::ReservationState::Reserved => Some(StateName::Reserved),
        proto::ReservationState::Refused => Some(StateName::Refused),
        proto::ReservationState::Released => Some(StateName::Released),
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
