//! What the service can refuse.

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such product.
    #[error("no such product")]
    NotFound,
    /// The product was changed since the version the caller knows.
    #[error("the product was changed in the meantime")]
    Stale,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The store cannot be reached or cannot serve now; the request may be repeated.
    #[error("the store cannot answer now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store answered what it never should: a fault of ours.
    #[error("the store failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}
