//! Which headers pass, in which direction.
//!
//! Towards the services there is a list of what passes, not of what does not: a header that nobody thought of, in
//! whatever spelling, cannot be taken for something that the gateway said. `x-sinew-user`, `X_Sinew_User`,
//! `x-sinew-user-bin`, `grpc-previous-rpc-attempts` and `forwarded` all end here, and so do trailers. The trace goes on
//! by the channel, which writes `traceparent` itself.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT},
};
use http_body::{Body as HttpBody, Frame};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tonic::{Status, body::Body};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What a gRPC client's request may bring along, one value each.
const GRPC_PASS: [HeaderName; 5] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    USER_AGENT,
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
];

/// What a REST request may bring along.
const REST_PASS: [HeaderName; 1] = [AUTHORIZATION];

/// Headers of one connection (RFC 9110, 7.6.1): they mean nothing to the next.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Headers of one message, and those that the gateway and the channel behind it write themselves.
const OURS: [HeaderName; 6] =
    [CONTENT_TYPE, CONTENT_LENGTH, HOST, REQUEST_ID, HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// What begins like this is said within the mesh, and believed there: criticality, the number of the attempt, a deadline. And
/// what shows the gateway who is asking is for the gateway alone.
const WITHIN: [&str; 3] = ["grpc-", "sinew-", "x-sinew-"];

/// Why a header of clients must not be let through beside those that always are; nothing where it may.
pub(crate) fn not_forwarded(name: &HeaderName) -> Option<&'static str> {
    if WITHIN.iter().any(|begin| name.as_str().starts_with(begin)) {
        Some("services believe what the mesh says there, and a client could say anything")
    } else if HOP_BY_HOP.contains(name) {
        Some("it is about one connection and means nothing to the next")
    } else if OURS.contains(name) {
        Some("the gateway writes it itself")
    } else {
        (*name == AUTHORIZATION).then_some("it always passes")
    }
}

/// The headers of a transcoded call.
pub(crate) fn from_rest(client: &HeaderMap, request_id: Option<&HeaderValue>, more: &[HeaderName]) -> HeaderMap {
    let mut headers = pick(client, REST_PASS.iter().chain(more));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    finish(headers, request_id)
}

/// The headers of a call that is passed through.
///
/// # Errors
///
/// INVALID_ARGUMENT for a malformed `grpc-timeout`.
pub(crate) fn from_grpc(
    client: &HeaderMap,
    request_id: Option<&HeaderValue>,
    more: &[HeaderName],
    longest: Duration,
) -> Result<HeaderMap, Status> {
    let mut headers = pick(client, GRPC_PASS.iter().chain(more));
    if let Some(value) = client.get(&GRPC_TIMEOUT) {
        let asked = timeout(value)
            .ok_or_else(|| Status::invalid_argument("grpc-timeout is malformed: at most eight digits and one of H M S m u n"))?;
        let bounded =
            if asked > longest { HeaderValue::try_from(format!("{}S", longest.as_secs())).ok() } else { Some(value.clone()) };
        headers.extend(bounded.map(|value| (GRPC_TIMEOUT, value)));
    }
    Ok(finish(headers, request_id))
}

/// Where a name comes more than once, its first value: nobody behind us has to choose.
fn pick<'a>(client: &HeaderMap, names: impl Iterator<Item = &'a HeaderName>) -> HeaderMap {
    names.filter_map(|name| Some((name.clone(), client.get(name)?.clone()))).collect()
}

fn finish(mut headers: HeaderMap, request_id: Option<&HeaderValue>) -> HeaderMap {
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(id) = request_id {
        headers.insert(REQUEST_ID, id.clone());
    }
    headers
}

/// Takes off what a service's answer says to us alone.
pub(crate) fn clean_answer(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

pin_project_lite::pin_project! {
    /// A request body without its trailers: gRPC requests have none, so whatever they say is not meant for a service.
    pub(crate) struct NoTrailers {
        #[pin]
        body: Body,
        ended: bool,
    }
}

impl NoTrailers {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, ended: false }
    }
}

impl HttpBody for NoTrailers {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        match ready!(this.body.poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_trailers() => {
                *this.ended = true;
                Poll::Ready(None)
            }
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_passes() {
        let mut client = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer one"),
            ("authorization", "Bearer two"),
            ("content-type", "application/grpc+proto"),
            ("x-sinew-user", "root"),
            ("x_sinew_user", "root"),
            ("x-sinew-user-bin", "cm9vdA"),
            ("grpc-previous-rpc-attempts", "9"),
            ("traceparent", "00-1"),
            ("x-request-id", "mine"),
            ("x-forwarded-for", "1.1.1.1"),
            ("connection", "close"),
            ("cookie", "a=b"),
        ] {
            client.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let ours = HeaderValue::from_static("ours");
        let sent = from_grpc(&client, Some(&ours), &[], Duration::from_secs(1)).expect("valid");
        let mut names: Vec<_> = sent.iter().map(|(n, v)| format!("{n}={}", v.to_str().expect("ascii"))).collect();
        names.sort();
        assert_eq!(names, ["authorization=Bearer one", "content-type=application/grpc+proto", "te=trailers", "x-request-id=ours"]);
        assert_eq!(from_rest(&client, None, &[]).len(), 3);
    }

    #[test]
    fn what_the_mesh_says_cannot_be_let_in_by_a_setting() {
        let refused = |name: &'static str| not_forwarded(&HeaderName::from_static(name)).is_some();
        for name in [
            "sinew-criticality",
            "sinew-anything",
            "x-sinew-load-key",
            "grpc-timeout",
            "grpc-previous-rpc-attempts",
            "grpc-encoding",
            "authorization",
            "te",
            "connection",
            "keep-alive",
            "transfer-encoding",
            "content-type",
            "content-length",
            "host",
            "x-request-id",
            "traceparent",
        ] {
            assert!(refused(name), "{name}");
        }
        for name in ["x-tenant", "accept-language", "user-agent", "sinew", "x-grpc-web", "cookie"] {
            assert!(!refused(name), "{name}");
        }
    }

    #[test]
    fn nobody_asks_for_more_time_than_there_is() {
        let sent = |asked: &'static str| {
            let client = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(asked))]);
            let headers = from_grpc(&client, None, &[], Duration::from_secs(60)).ok()?;
            Some(headers.get(GRPC_TIMEOUT)?.to_str().ok()?.to_owned())
        };
        assert_eq!(sent("250m").as_deref(), Some("250m"));
        assert_eq!(sent("99999999H").as_deref(), Some("60S"));
        assert_eq!(sent("soon"), None);
    }
}
