//! The user service: who there is, and tokens that prove it.

mod domain;
mod infrastructure;

pub use domain::*;
pub use infrastructure::*;
