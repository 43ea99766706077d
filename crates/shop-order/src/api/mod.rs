//! The service as others call it: what `shop.order.v1` says, in terms of the domain.

mod caller;
mod service;
mod status;
pub(crate) mod wire;

pub use service::Api;
