//! Errors as RFC 9457 problems.
//!
//! `code` is the gRPC code's name and is stable: programs decide by it. `errors` names each bad field, `details` holds the
//! rest of the `google.rpc` details. What a service says of its own insides (INTERNAL, UNKNOWN, DATA_LOSS) and what the
//! mesh says of endpoints (UNAVAILABLE) is for our logs; the caller gets the request's id to quote.

use crate::{rate::seconds, transcode::BadInput};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde_json::{Value, json};
use sinew_core::classify::Code;
use std::time::Duration;
use tonic::{Status, body::Body};
use tonic_types::{ErrorDetail, StatusExt};

/// Longest `detail` that is sent: what a parser quotes of its input may be as long as the input.
const LONGEST_DETAIL: usize = 512;

/// When to come back where nobody said so: endpoints that are away are tried again within a second.
const AGAIN: Duration = Duration::from_secs(1);

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) errors: Vec<Value>,
    pub(crate) details: Vec<Value>,
    retry_after: Option<Duration>,
    allow: Option<HeaderValue>,
    challenge: Option<HeaderValue>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > LONGEST_DETAIL {
            detail.truncate(detail.floor_char_boundary(LONGEST_DETAIL));
            detail.push('…');
        }
        let (errors, details) = (Vec::new(), Vec::new());
        Self { status, code, detail, errors, details, retry_after: None, allow: None, challenge: None }
    }

    pub(crate) fn not_found(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, format!("there is nothing at {path}"))
    }

    pub(crate) fn wrong_method(method: &Method, allowed: &[Method]) -> Self {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let mut problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Code::Unimplemented,
            format!("{method} is not possible here, only {allowed}"),
        );
        problem.allow = HeaderValue::try_from(allowed).ok();
        problem
    }

    pub(crate) fn media_type(what: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, what)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::InvalidArgument,
            format!("the body is larger than {limit} bytes, the most that is taken"),
        )
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, "the body did not arrive in time")
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, detail)
    }

    pub(crate) fn rate_limited(wait: Duration) -> Self {
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            Code::ResourceExhausted,
            format!("too many calls; wait {} s", seconds(wait).max(1)),
        );
        problem.retry_after = Some(wait);
        problem
    }

    pub(crate) fn failed() -> Self {
        Self::from(Status::internal(""))
    }

    /// The answer. `request_id` becomes the problem's `instance`.
    pub(crate) fn into_response(self, request_id: Option<&str>) -> Response<Body> {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Client Closed Request"),
            "status": self.status.as_u16(),
            "code": self.code.name(),
            "detail": self.detail,
        });
        if let Some(members) = body.as_object_mut() {
            let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
            if let Some(id) = request_id {
                put("instance", format!("urn:uuid:{id}").into());
            }
            if !self.errors.is_empty() {
                put("errors", self.errors.into());
            }
            if !self.details.is_empty() {
                put("details", self.details.into());
            }
        }
        let mut response = Response::new(Body::new(Full::new(Bytes::from(body.to_string()))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let wait = self.retry_after.map(|wait| HeaderValue::from(seconds(wait).max(1)));
        for (name, value) in [(RETRY_AFTER, wait), (ALLOW, self.allow), (WWW_AUTHENTICATE, self.challenge)] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        response.extensions_mut().insert(self.code);
        response
    }
}

/// HTTP's word for a gRPC code: the table of `google/rpc/code.proto`.
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // 499 is nobody's standard, but the one that logs everywhere know for a client that went away.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let code = Code::from_number(status.code() as i32);
        let detail = match code {
            Code::Unknown | Code::Internal | Code::DataLoss => {
                "something failed on our side; quote the instance when you report it"
            }
            Code::Unavailable => "the service cannot answer at the moment; try again",
            _ => status.message(),
        };
        let mut problem = Self::new(http_status(code), code, detail);
        for detail in status.get_error_details_vec() {
            problem.add(detail);
        }
        if code == Code::Unavailable {
            problem.retry_after.get_or_insert(AGAIN);
        }
        if code == Code::Unauthenticated {
            problem.challenge = Some(challenge(status.message()));
        }
        problem
    }
}

impl From<BadInput> for Problem {
    fn from(bad: BadInput) -> Self {
        let mut problem = Self::bad_request(bad.detail);
        problem.errors = bad.fields.into_iter().map(|f| violation(&f.field, &f.description)).collect();
        problem
    }
}

impl Problem {
    /// DebugInfo is left out: it is a stack trace by definition.
    fn add(&mut self, detail: ErrorDetail) {
        let value = match detail {
            ErrorDetail::BadRequest(bad) => {
                self.errors.extend(bad.field_violations.iter().map(|v| violation(&v.field, &v.description)));
                return;
            }
            ErrorDetail::RetryInfo(retry) => {
                self.retry_after = retry.retry_delay;
                return;
            }
            ErrorDetail::ErrorInfo(info) => {
                json!({"type": "ErrorInfo", "reason": info.reason, "domain": info.domain, "metadata": info.metadata})
            }
            ErrorDetail::QuotaFailure(quota) => json!({
                "type": "QuotaFailure",
                "violations": quota.violations.iter()
                    .map(|v| json!({"subject": v.subject, "description": v.description})).collect::<Vec<_>>(),
            }),
            ErrorDetail::PreconditionFailure(failure) => json!({
                "type": "PreconditionFailure",
                "violations": failure.violations.iter()
                    .map(|v| json!({"type": v.r#type, "subject": v.subject, "description": v.description})).collect::<Vec<_>>(),
            }),
            ErrorDetail::ResourceInfo(info) => json!({
                "type": "ResourceInfo", "resource_type": info.resource_type, "resource_name": info.resource_name,
                "description": info.description,
            }),
            ErrorDetail::Help(help) => json!({
                "type": "Help",
                "links": help.links.iter().map(|l| json!({"description": l.description, "url": l.url})).collect::<Vec<_>>(),
            }),
            ErrorDetail::LocalizedMessage(text) => {
                json!({"type": "LocalizedMessage", "locale": text.locale, "message": text.message})
            }
            _ => return,
        };
        self.details.push(value);
    }
}

fn violation(field: &str, description: &str) -> Value {
    json!({"field": field, "description": description})
}

/// RFC 6750: which scheme, and why a token that was sent is no good.
fn challenge(reason: &str) -> HeaderValue {
    let plain: String = reason.chars().filter(|c| (' '..='~').contains(c) && !matches!(c, '"' | '\\')).collect();
    let error = if reason == crate::auth::NO_TOKEN {
        String::new()
    } else {
        format!(", error=\"invalid_token\", error_description=\"{plain}\"")
    };
    HeaderValue::try_from(format!("Bearer realm=\"sinew\"{error}")).unwrap_or(HeaderValue::from_static("Bearer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn details_become_members() {
        let mut details = ErrorDetails::with_bad_request_violation("lines[0].quantity", "must be positive");
        details.set_error_info("PRODUCT_UNKNOWN", "shop", [("product_id".to_owned(), "p1".to_owned())]);
        details.set_retry_info(Some(Duration::from_millis(1500)));
        details.set_debug_info(["secret stack".to_owned()], "secret");
        let problem = Problem::from(Status::with_error_details(tonic::Code::InvalidArgument, "bad", details));
        assert_eq!(problem.errors, [json!({"field": "lines[0].quantity", "description": "must be positive"})]);
        assert_eq!(problem.details.len(), 1);
        assert_eq!(problem.details[0]["reason"], "PRODUCT_UNKNOWN");
        let response = problem.into_response(None);
        assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (400, &HeaderValue::from_static("2")));
    }

    #[test]
    fn what_is_away_says_when_to_come_back() {
        let after = |status: Status| Problem::from(status).into_response(None).headers().get(RETRY_AFTER).cloned();
        assert_eq!(after(Status::unavailable("none of 2 endpoints")), Some(HeaderValue::from_static("1")));
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let own = Status::with_error_details(tonic::Code::Unavailable, "away", details);
        assert_eq!(after(own), Some(HeaderValue::from_static("7")));
        assert_eq!(after(Status::not_found("no")), None);
    }

    #[test]
    fn insides_stay_inside() {
        for status in [Status::internal("at src/db.rs:7"), Status::unknown("panic"), Status::unavailable("10.0.0.7:4000 refused")] {
            let secret = status.message().to_owned();
            assert!(!Problem::from(status).detail.contains(&secret));
        }
        assert!(Problem::bad_request("é".repeat(10_000)).detail.len() <= LONGEST_DETAIL + 3);
    }

    #[test]
    fn every_code_has_its_status() {
        let table = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        assert_eq!(Code::ALL.iter().map(|c| http_status(*c).as_u16()).collect::<Vec<_>>(), table);
    }
}
