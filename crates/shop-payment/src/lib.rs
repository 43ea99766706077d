//! The payment service: takes money once, and gives it back.

mod domain;
mod infrastructure;

pub use domain::*;
pub use infrastructure::*;
