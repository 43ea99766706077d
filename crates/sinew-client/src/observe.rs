//! Counts every call once, and makes it a span of its trace.
//!
//! Series are atomics that the method holds already: recording looks nothing up and takes no lock. A call is over
//! when its status is known, which for a stream is long after its headers; whoever drops it earlier has cancelled it.
//!
//! The trace is the caller's (the inbound call's, or a `traceparent` it set), else a new one, if this process exports
//! traces at all. All attempts of a call carry the same span. The inbound call's criticality goes along too, unless the caller
//! set one.

use crate::{
    call::Call,
    destination::Shared,
    ending::{Witness, Witnessed},
    error::Error,
    headers,
    method::Method,
};
use http::{HeaderMap, HeaderValue, Response};
use pin_project_lite::pin_project;
use sinew_core::{
    Context as CallContext, Criticality,
    classify::Code,
    trace::{self, Span, SpanKind, TraceContext},
};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::SystemTime,
};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

/// Adds statistics and spans.
#[derive(Debug, Clone)]
pub(crate) struct ObserveLayer {
    destination: Arc<Shared>,
}

/// The layer's service.
#[derive(Debug, Clone)]
pub(crate) struct Observe<S> {
    inner: S,
    destination: Arc<Shared>,
}

impl ObserveLayer {
    pub(crate) fn new(destination: Arc<Shared>) -> Self {
        Self { destination }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, destination: self.destination.clone() }
    }
}

/// A response body that reports how the call ended.
pub(crate) type Body<I> = Witnessed<I, Record>;

impl<S, B, I> Service<Call<B>> for Observe<S>
where
    S: Service<Call<B>, Response = Response<I>, Error = Error>,
{
    type Response = Response<Body<I>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call<B>) -> ResponseFuture<S::Future> {
        let inbound = CallContext::current();
        inherit(inbound.criticality, inbound.attempt, &mut call.headers);
        let span = open(&self.destination, inbound.trace, &mut call.headers);
        let (method, started, deadline) = (call.method.clone(), call.now, call.deadline.map(|d| d.at));
        method.calls.in_flight.fetch_add(1, Relaxed);
        let record = Record { method, started, deadline, span, over: false };
        ResponseFuture { inner: self.inner.call(call), record: Some(record) }
    }
}

pin_project! {
    /// Waits for response headers.
    ///
    /// # Cancel safety
    ///
    /// Dropping it counts the call as cancelled, or as late if its deadline has passed.
    pub(crate) struct ResponseFuture<F> {
        #[pin]
        inner: F,
        record: Option<Record>,
    }
}

impl<F, I> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<I>, Error>>,
{
    type Output = Result<Response<Body<I>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        let Some(mut record) = this.record.take() else { return Poll::Pending };
        Poll::Ready(match answer {
            Ok(response) => Ok(Witnessed::wrap(response, record)),
            Err(error) => {
                record.ended(error.code(), Some(&error));
                Err(error)
            }
        })
    }
}

// === impl Record ===

/// One call under way.
#[derive(Debug)]
pub(crate) struct Record {
    method: Arc<Method>,
    started: Instant,
    deadline: Option<Instant>,
    span: Option<Box<Open>>,
    over: bool,
}

/// A span that has not ended.
#[derive(Debug)]
struct Open {
    context: TraceContext,
    parent: u64,
    start: SystemTime,
    destination: Arc<Shared>,
}

impl Record {
    fn close(&mut self, code: Code, error: Option<String>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.method.calls.in_flight.fetch_sub(1, Relaxed);
        self.method.calls.record(code, Instant::now().saturating_duration_since(self.started));
        if let Some(span) = self.span.take() {
            span.close(&self.method, code, error);
        }
    }
}

impl Witness for Record {
    fn ended(&mut self, code: Code, error: Option<&Error>) {
        let error = if self.span.is_some() && code != Code::Ok {
            Some(error.map_or_else(|| code.to_string(), ToString::to_string))
        } else {
            None
        };
        self.close(code, error);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.over {
            let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            self.close(if late { Code::DeadlineExceeded } else { Code::Cancelled }, None);
        }
    }
}

/// Hands on what the inbound call's caller said of it. The defaults are not worth a header.
fn inherit(criticality: Criticality, tried: u32, headers: &mut HeaderMap) {
    if tried > 0 {
        headers.insert(headers::REPEATED, HeaderValue::from(tried));
    }
    if criticality != Criticality::default() && !headers.contains_key(headers::CRITICALITY) {
        headers.insert(headers::CRITICALITY, HeaderValue::from_static(criticality.as_str()));
    }
}

// === spans ===

/// Makes the call a child of its trace and writes `traceparent`; the span, if it is recorded.
fn open(destination: &Arc<Shared>, inbound: Option<TraceContext>, headers: &mut HeaderMap) -> Option<Box<Open>> {
    let sink = trace::sink();
    let parent = inbound.or_else(|| TraceContext::parse(headers::get(headers, &headers::TRACEPARENT)?.to_str().ok()?));
    let context = match parent {
        Some(parent) => TraceContext { span_id: destination.random().max(1), ..parent },
        // Nobody to follow and nobody to tell.
        None if sink.is_none() => return None,
        None => root(destination),
    };
    let mut value = HeaderValue::from_bytes(&context.encode()).ok()?;
    // Unique, so HPACK must not index it: it would push what repeats out of the connection's table.
    value.set_sensitive(true);
    headers.insert(headers::TRACEPARENT, value);
    (context.sampled && sink.is_some()).then(|| {
        let (parent, start) = (parent.map_or(0, |p| p.span_id), destination.ports.clock.now());
        Box::new(Open { context, parent, start, destination: destination.clone() })
    })
}

/// A new trace. Its id is drawn from the client's generator, which is worth a lock once per trace: ids must differ
/// between processes too.
fn root(destination: &Shared) -> TraceContext {
    let rng = &destination.ports.rng;
    let trace_id = (u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())).max(1);
    let sampled = destination.random_unit() < destination.config.sample_ratio;
    TraceContext { trace_id, span_id: destination.random().max(1), sampled }
}

impl Open {
    fn close(&self, method: &Method, code: Code, error: Option<String>) {
        let Some(sink) = trace::sink() else { return };
        sink.record(Span {
            context: self.context,
            parent: self.parent,
            name: method.policy.path.trim_start_matches('/').to_owned(),
            kind: SpanKind::Client,
            start: self.start,
            end: self.destination.ports.clock.now(),
            attributes: vec![
                ("rpc.system", "grpc".to_owned()),
                ("server.address", self.destination.service.to_string()),
                ("rpc.grpc.status_code", (code as i32).to_string()),
            ],
            error,
        });
    }
}
