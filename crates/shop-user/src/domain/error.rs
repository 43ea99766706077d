//! What the service can refuse.

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another user has that address.
    #[error("a user with this e-mail address exists")]
    EmailTaken,
    /// No such user.
    #[error("no such user")]
    NotFound,
    /// The user was changed since the version the caller knows.
    #[error("the user was changed in the meantime")]
    Stale,
    /// Unknown address or wrong password; which of them is not told.
    #[error("e-mail address or password is wrong")]
    WrongCredentials,
    /// More passwords are being checked than this machine can; come back later.
    #[error("too many log-ins at once")]
    Busy,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A secret could not be hashed or a token not be signed: a fault of ours.
    #[error("a cryptographic operation failed")]
    Crypto(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store cannot be reached or cannot serve now; the request may be repeated.
    #[error("the store cannot answer now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store answered what it never should: a fault of ours.
    #[error("the store failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}
