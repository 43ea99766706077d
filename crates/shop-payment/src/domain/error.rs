//! What the service can refuse.

use super::ProviderError;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider refused the card. Final: a repeat is answered the same.
    #[error("the payment was declined: {reason}")]
    Declined {
        /// The provider's word for why.
        reason: String,
    },
    /// The payment was refunded, maybe before this charge arrived. Final.
    #[error("the payment was refunded")]
    Refunded,
    /// The id was used for another charge.
    #[error("the payment exists with another amount, currency, order or token")]
    OtherCharge,
    /// Nothing is known of the payment.
    #[error("no such payment")]
    NotFound,
    /// The provider has not said whether it took the money; a repeat asks it.
    #[error("the outcome is not known yet")]
    OutcomeUnknown,
    /// The provider could not be asked; the request may be repeated.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The store cannot be reached or cannot serve now; the request may be repeated.
    #[error("the store cannot answer now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store answered what it never should: a fault of ours.
    #[error("the store failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}
