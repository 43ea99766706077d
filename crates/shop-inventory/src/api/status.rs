//! The domain's refusals as statuses.

use crate::domain::{AdjustError, Error, Shortage};
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, StatusExt};

/// Whose reasons these are, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "inventory.shop";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Insufficient(short) => {
                let mut details = reason("INSUFFICIENT_STOCK");
                details.set_precondition_failure(short.iter().map(violation).collect::<Vec<_>>());
                Self::with_error_details(Code::FailedPrecondition, message, details)
            }
            Error::Adjust(AdjustError::Insufficient { .. }) => {
                Self::with_error_details(Code::FailedPrecondition, message, reason("INSUFFICIENT_STOCK"))
            }
            Error::Released => Self::with_error_details(Code::FailedPrecondition, message, reason("RESERVATION_RELEASED")),
            Error::Adjust(AdjustError::Overflow) => Self::with_error_details(
                Code::InvalidArgument,
                &message,
                ErrorDetails::with_bad_request_violation("delta", &message),
            ),
            Error::OtherLines => Self::with_error_details(
                Code::InvalidArgument,
                &message,
                ErrorDetails::with_bad_request_violation("lines", &message),
            ),
            Error::KeyReused => Self::with_error_details(
                Code::InvalidArgument,
                &message,
                ErrorDetails::with_bad_request_violation("idempotency_key", &message),
            ),
            Error::NotFound => Self::not_found(message),
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

fn reason(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

fn violation(short: &Shortage) -> PreconditionViolation {
    let description = format!("{} requested, {} available", short.requested, short.available);
    PreconditionViolation::new("INSUFFICIENT_STOCK", short.product.0.to_string(), description)
}
