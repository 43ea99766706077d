//! Enforces the caller's deadline, and hands it on to the calls that the handler makes.
//!
//! `grpc-timeout` is what is left of the caller's time when it sent the request. Work past it is for nobody: the handler
//! is dropped, streams included. The same value, with trace, attempt and criticality, becomes the task's [`Context`], which a stream
//! has around it too: what it calls while it is sent belongs to the same call.

use crate::ending::trailers;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use sinew_core::{
    Context as CallContext, Criticality,
    classify::Code,
    context::{self, Scope},
    criticality,
};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

/// When a call may be repeated; negative for never (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Adds [`Deadline`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadlineLayer;

/// Enforces `grpc-timeout` and sets the task's context.
#[derive(Debug, Clone)]
pub(crate) struct Deadline<S>(S);

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;
    fn layer(&self, inner: S) -> Self::Service {
        Deadline(inner)
    }
}

impl<S> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<ScopedBody>;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let deadline = match timeout(request.headers()) {
            Ok(Some(Duration::ZERO)) => return DeadlineFuture::refused(exceeded()),
            Ok(left) => left.and_then(|left| Instant::now().checked_add(left)),
            Err(status) => return DeadlineFuture::refused(status),
        };
        let tried = |header| request.headers().get(header).and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0);
        let attempt = tried("grpc-previous-rpc-attempts").max(tried(context::REPEATED));
        let trace = request.extensions().get().copied();
        let criticality =
            request.headers().get(criticality::HEADER).map_or_else(Criticality::default, |v| Criticality::parse(v.as_bytes()));
        let context = CallContext { deadline, trace, attempt, criticality };
        DeadlineFuture {
            inner: Some(context::scope(context.clone(), self.0.call(request))),
            limit: deadline.map(sleep_until),
            context,
            refusal: None,
        }
    }
}

pin_project_lite::pin_project! {
    /// The inner service's future, with its time.
    pub(crate) struct DeadlineFuture<F> {
        #[pin]
        inner: Option<Scope<F>>,
        #[pin]
        limit: Option<Sleep>,
        context: CallContext,
        refusal: Option<Box<Status>>,
    }
}

impl<F> DeadlineFuture<F> {
    fn refused(status: Status) -> Self {
        Self { inner: None, limit: None, context: CallContext::default(), refusal: Some(Box::new(status)) }
    }
}

impl<F, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<ScopedBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            let status = this.refusal.take().map_or_else(exceeded, |s| *s);
            return Poll::Ready(Ok(status.into_http()));
        };
        match inner.as_mut().poll(cx) {
            Poll::Ready(answer) => {
                let (context, gave_up) = (this.context.clone(), context::gave_up(inner));
                Poll::Ready(answer.map(|mut response| {
                    if let Some(code) = gave_up {
                        ask_not_to_repeat(code, response.headers_mut());
                    }
                    response.map(|body| ScopedBody::new(body, context))
                }))
            }
            Poll::Pending => {
                match this.limit.as_pin_mut() {
                    Some(limit) => ready!(limit.poll(cx)),
                    None => return Poll::Pending,
                }
                // Dropped here and now: nobody waits for the rest of the work.
                this.inner.set(None);
                Poll::Ready(Ok(exceeded().into_http()))
            }
        }
    }
}

/// A call that failed because one below it was repeated in vain is not worth repeating: only the layer next to a fault repeats,
/// or each layer would multiply what the one below it does. (*Site Reliability Engineering*, "Addressing Cascading Failures".)
/// That it failed because of that is taken from its status: the same code.
fn ask_not_to_repeat(code: Code, headers: &mut HeaderMap) {
    let same = headers.get("grpc-status").and_then(|v| v.to_str().ok()?.parse().ok()) == Some(code as i32);
    if same && code != Code::Ok && !headers.contains_key(PUSHBACK) {
        headers.insert(PUSHBACK, HeaderValue::from_static("-1"));
    }
}

pin_project_lite::pin_project! {
    /// A response body with the call's context around it, which ends with DEADLINE_EXCEEDED when its time is up.
    #[derive(Default)]
    pub(crate) struct ScopedBody {
        #[pin]
        body: Body,
        #[pin]
        limit: Option<Sleep>,
        context: CallContext,
        over: bool,
    }
}

impl ScopedBody {
    fn new(body: Body, context: CallContext) -> Self {
        Self { body, limit: context.deadline.map(sleep_until), context, over: false }
    }
}

impl HttpBody for ScopedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        let polled = context::within(this.context.clone(), || this.body.as_mut().poll_frame(cx));
        match (polled, this.limit.as_pin_mut()) {
            (Poll::Pending, Some(limit)) => {
                ready!(limit.poll(cx));
                *this.over = true;
                this.body.set(Body::empty());
                Poll::Ready(Some(Ok(trailers(&exceeded()))))
            }
            (polled, _) => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn exceeded() -> Status {
    Status::deadline_exceeded("the caller's deadline has passed")
}

/// The time left, from `grpc-timeout`: at most eight digits and a unit.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let bad = || Status::invalid_argument("grpc-timeout is malformed: at most eight digits and one of H M S m u n");
    let text = value.to_str().map_err(|_| bad())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(bad()),
    }))
}

#[cfg(test)]
mod tests {
    use super::timeout;
    use http::{HeaderMap, HeaderValue};
    use std::time::Duration;

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_str(text).expect("ascii"));
            timeout(&headers).map_err(|s| s.code())
        };
        assert_eq!(read("250m"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(read("99999999H"), Ok(Some(Duration::from_secs(99_999_999 * 3600))));
        assert_eq!(read("1n"), Ok(Some(Duration::from_nanos(1))));
        for bad in ["", "m", "1", "1x", "-1S", "123456789S", "1.5S"] {
            assert_eq!(read(bad), Err(tonic::Code::InvalidArgument), "{bad}");
        }
        assert!(timeout(&HeaderMap::new()).expect("absent").is_none());
    }
}
