//! The port to whoever moves the money.

use super::{Charge, PaymentId};

/// What came of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The money was taken.
    Taken {
        /// The provider's name of the charge.
        reference: String,
    },
    /// Refused, for good: the same key is answered the same.
    Declined {
        /// The provider's word for why.
        reason: String,
    },
    /// The key was undone; no money is held under it, and none will be taken.
    Closed,
}

/// What an undo found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// Money had been taken and was given back.
    Returned,
    /// None had been taken; none will be.
    NothingTaken,
}

/// The provider gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It may have acted: look the key up.
    #[error("the payment provider did not answer in time")]
    OutcomeUnknown,
    /// It cannot be asked, or its answer cannot be read.
    #[error("the payment provider could not be asked")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Moves money.
///
/// Whatever implements it MUST honour the key: all calls with one key concern one charge, taken at most once. After an
/// answered [`undo`](Self::undo) no charge under that key, even one under way, may take money: a replica that hangs
/// in its charge cannot be recalled, so only the provider can refuse it. (For a provider without such an operation the
/// adapter has to watch voided keys and return what still arrives.)
pub trait Provider: Send + Sync + 'static {
    /// Takes the money, or says what came of the first charge with that key.
    fn charge(&self, charge: &Charge) -> impl Future<Output = Result<Outcome, ProviderError>> + Send;

    /// What came of a charge; none when the provider never saw it.
    fn find(&self, key: PaymentId) -> impl Future<Output = Result<Option<Outcome>, ProviderError>> + Send;

    /// Gives back what was taken under the key and closes it.
    fn undo(&self, key: PaymentId) -> impl Future<Output = Result<Undone, ProviderError>> + Send;
}
