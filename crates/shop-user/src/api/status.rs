//! The domain's refusals as statuses.

use crate::domain::Error;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// After this long a queue that is full now has been worked off.
const BACK_OFF: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::EmailTaken => Self::already_exists(message),
            Error::NotFound => Self::not_found(message),
            Error::Stale => Self::aborted(message),
            Error::WrongCredentials => Self::unauthenticated(message),
            Error::Busy => {
                Self::with_error_details(Code::ResourceExhausted, message, ErrorDetails::with_retry_info(Some(BACK_OFF)))
            }
            Error::KeyReused => Self::with_error_details(
                Code::InvalidArgument,
                &message,
                ErrorDetails::with_bad_request_violation("idempotency_key", &message),
            ),
            Error::Unavailable(cause) => {
                tracing::warn!(%cause, "the store cannot answer now");
                Self::unavailable(message)
            }
            Error::Crypto(cause) | Error::Internal(cause) => {
                tracing::error!(%cause, "{message}");
                Self::internal(message)
            }
        }
    }
}
