//! The inventory service: how much of each product there is, and for whom it is kept.

mod api;
mod app;
mod config;
mod domain;
mod infrastructure;

pub use api::Api;
pub use app::App;
pub use config::Config;
pub use domain::{
    AdjustError, Adjustment, Caller, Decision, Error, Line, Lines, LinesError, MAX_ON_HAND, MAX_QUANTITY, Page, ProductId,
    Reservation, ReservationId, ReservationState, Shortage, StateName, Stock, Warehouse, release, reserve,
};
pub use infrastructure::{SqlWarehouse, migrations};

/// The places where a test may end the process: `SINEW_FAILPOINT=<name>=kill`, see [`sinew_core::failpoint`].
pub const FAILPOINTS: &[&str] = &[
    "inventory.reserve.before_commit",
    "inventory.reserve.after_commit",
    "inventory.release.before_commit",
    "inventory.release.after_commit",
];
