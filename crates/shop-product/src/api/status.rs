//! The domain's refusals as statuses.

use crate::domain::Error;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A Redis that was restarted answers again after this long.
const AGAIN: Duration = Duration::from_secs(1);

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
                Self::with_error_details(Code::Unavailable, message, ErrorDetails::with_retry_info(Some(AGAIN)))
            }
            Error::Internal(cause) => {
                tracing::error!(%cause, "the store failed");
                Self::internal(message)
            }
        }
    }
}
