//! The rules of stock and the port they need: nothing here knows the wire or the database.

mod error;
mod reservation;
mod stock;
mod warehouse;

pub use error::Error;
pub use reservation::{
    Decision, Line, Lines, LinesError, Reservation, ReservationId, ReservationState, Shortage, StateName, release, reserve,
};
pub use stock::{AdjustError, MAX_ON_HAND, MAX_QUANTITY, ProductId, Stock};
pub use warehouse::{Adjustment, Caller, Page, Warehouse};

#[cfg(test)]
mod tests;
