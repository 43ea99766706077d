//! What can go wrong inside a transaction.

use crate::domain::Error;
use sinew_events::idempotency;
use sinew_sql::Retry;

/// A refusal of the domain's, or the store's own trouble, which may pass.
pub(super) enum Fault {
    Refused(Error),
    Sql(sinew_sql::Error),
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl Retry for Fault {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Sql(error) if error.is_transient())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<sinew_sql::Error> for Fault {
    fn from(error: sinew_sql::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<idempotency::Error> for Fault {
    fn from(error: idempotency::Error) -> Self {
        match error {
            idempotency::Error::Reused => Self::Refused(Error::KeyReused),
            idempotency::Error::Sql(error) => Self::Sql(error),
        }
    }
}

impl From<sinew_saga::Error> for Fault {
    fn from(error: sinew_saga::Error) -> Self {
        match error {
            sinew_saga::Error::Sql(error) => Self::Sql(error),
            sinew_saga::Error::NotFound(_) => Self::Refused(Error::NotFound),
            other => Self::Broken(other.into()),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) => error,
            Fault::Sql(error) if error.is_unavailable() => Self::Unavailable(error.into()),
            Fault::Sql(error) => Self::Internal(error.into()),
            Fault::Broken(error) => Self::Internal(error),
        }
    }
}
