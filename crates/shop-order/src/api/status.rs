//! The domain's refusals as statuses.

use crate::domain::{Error, ProductId};
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, StatusExt};

/// Whose reasons these are, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "order.shop";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::ProductUnknown(unknown) => {
                let mut details = ErrorDetails::with_error_info("PRODUCT_UNKNOWN", DOMAIN, HashMap::new());
                details.set_precondition_failure(unknown.iter().map(violation).collect::<Vec<_>>());
                Self::with_error_details(Code::FailedPrecondition, message, details)
            }
            Error::CustomerUnknown => refused("CUSTOMER_UNKNOWN", message),
            Error::MixedCurrencies => refused("MIXED_CURRENCIES", message),
            Error::Completed => refused("ORDER_COMPLETED", message),
            Error::Failed => refused("ORDER_FAILED", message),
            Error::TotalTooLarge => invalid("lines", message),
            Error::KeyReused => invalid("idempotency_key", message),
            Error::NotFound => Self::not_found(message),
            Error::Forbidden => Self::permission_denied(message),
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

fn refused(reason: &str, message: String) -> Status {
    Status::with_error_details(Code::FailedPrecondition, message, ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new()))
}

fn invalid(field: &str, message: String) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, &message);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn violation(product: &ProductId) -> PreconditionViolation {
    PreconditionViolation::new("PRODUCT_UNKNOWN", product.0.to_string(), "not known here, not even after a moment")
}
