//! Running a transaction again when the database asks for it.

use crate::Error;
use std::time::Duration;

/// Attempts in all: contention that outlasts them is a load problem, and the caller should hear of it.
const ATTEMPTS: u32 = 6;

/// An error that may say that the transaction should run again from its start.
pub trait Retry {
    /// Whether nothing was done and another attempt may succeed at once.
    fn is_transient(&self) -> bool;
}

impl Retry for Error {
    fn is_transient(&self) -> bool {
        Error::is_transient(self)
    }
}

/// Runs `transaction` from its start until it succeeds, fails for good, or failed 6 times for passing reasons.
///
/// Waits 1, 2, 4 … ms in between. A store wraps each of its transactions in this; so it also works on a PostgreSQL set to
/// SERIALIZABLE.
///
/// # Cancel safety
///
/// Dropping the future drops the attempt, which rolls back unless its commit was already under way.
pub async fn retry<T, E: Retry, F: Future<Output = Result<T, E>>>(transaction: impl Fn() -> F) -> Result<T, E> {
    let mut attempt = 1;
    loop {
        match transaction().await {
            Err(error) if attempt < ATTEMPTS && error.is_transient() => {
                tokio::time::sleep(Duration::from_millis(1 << (attempt - 1))).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}
