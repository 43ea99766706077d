//! What the service can refuse.

use super::{AdjustError, Shortage};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too little of these products; nothing was reserved.
    #[error("too little stock of {} product(s)", .0.len())]
    Insufficient(Vec<Shortage>),
    /// The reservation was released, maybe before this request arrived.
    #[error("the reservation was released")]
    Released,
    /// The reservation's id was used for other lines.
    #[error("the reservation exists with other lines")]
    OtherLines,
    /// The adjustment breaks a rule.
    #[error(transparent)]
    Adjust(#[from] AdjustError),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Nothing is known of the product.
    #[error("no stock of this product was ever recorded")]
    NotFound,
    /// The store cannot be reached or cannot serve now; the request may be repeated.
    #[error("the store cannot answer now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store answered what it never should: a fault of ours.
    #[error("the store failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}
