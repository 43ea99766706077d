//! What the service can refuse.

use super::ProductId;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is known of these products.
    #[error("{} product(s) are not known", .0.len())]
    ProductUnknown(Vec<ProductId>),
    /// Nothing is known of the customer.
    #[error("the customer is not known")]
    CustomerUnknown,
    /// An order has one currency.
    #[error("the products are priced in different currencies")]
    MixedCurrencies,
    /// The sum is past the largest amount.
    #[error("the total is too large")]
    TotalTooLarge,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
    /// The order is somebody else's.
    #[error("the order is another customer's")]
    Forbidden,
    /// Too late to cancel.
    #[error("the order is completed")]
    Completed,
    /// It failed on its own, so that there is nothing to cancel.
    #[error("the order has failed already")]
    Failed,
    /// The store cannot answer now; the request may be repeated.
    #[error("the store cannot answer now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store is broken.
    #[error("the store failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}
