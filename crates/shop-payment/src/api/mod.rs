//! The service as others call it: what `shop.payment.v1` says, in terms of the domain.

mod service;
mod status;
mod wire;

pub use service::Api;
pub(crate) use wire::payment;

#[cfg(test)]
mod tests;
