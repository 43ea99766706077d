//! The domain's refusals as statuses.

use crate::domain::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NotFound => Self::not_found(message),
            Error::Stale => Self::aborted(message),
            Error::KeyReused => Self::with_error_details(
                Code::InvalidArgument,
                &message,
                ErrorDetails::with_bad_request_violation("idempotency_key", &message),
            ),
            Error::Unavailable(cause) => {
                tracing::warn!(%cause, "the store cannot answer now");
                Self::unavailable(message)
            }
            Error::Internal(cause) => {
                tracing::error!(%cause, "the store failed");
                Self::internal(message)
            }
        }
    }
}
