//! The domain's refusals as statuses.

use crate::domain::Error;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Whose reasons these are, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "payment.shop";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Declined { reason: provider } => final_no(message, "PAYMENT_DECLINED", [("decline_reason", provider)].into()),
            Error::Refunded => final_no(message, "PAYMENT_REFUNDED", HashMap::new()),
            Error::OtherCharge => Self::with_error_details(
                Code::InvalidArgument,
                &message,
                ErrorDetails::with_bad_request_violation("payment_id", &message),
            ),
            Error::NotFound => Self::not_found(message),
            // The mesh repeats these; the repeat looks up what this one left open.
            Error::OutcomeUnknown => Self::unavailable(message),
            Error::Provider(cause) => {
                tracing::warn!(error = &cause as &dyn std::error::Error, "the payment provider gave no answer");
                Self::unavailable(message)
            }
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

fn final_no(message: String, reason: &str, metadata: HashMap<&str, String>) -> Status {
    let metadata: HashMap<String, String> = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Status::with_error_details(Code::FailedPrecondition, message, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}
