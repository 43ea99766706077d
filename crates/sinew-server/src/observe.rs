//! One record per call: how it ended, how long it took, and its span.
//!
//! A gRPC call ends with its trailers, not with its headers, so the record is made when the response body has ended or
//! was dropped. The series of every known method is resolved when the server is built; a record is a few atomic adds.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use sinew_core::{
    Clock, Policies, ServiceName,
    classify::Code,
    stats::{CallKey, CallStats, Registry, Side},
    trace::{Span, SpanKind, TraceContext, sink},
};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::SystemTime,
};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

/// Adds [`Observe`].
#[derive(Debug, Clone)]
pub(crate) struct ObserveLayer(Arc<Series>);

#[derive(Debug)]
struct Series {
    methods: HashMap<Arc<str>, Arc<CallStats>>,
    /// Everything that no contract knows, in one series: paths are the caller's to invent.
    other: Arc<CallStats>,
    clock: Arc<dyn Clock>,
}

impl ObserveLayer {
    pub(crate) fn new(service: &ServiceName, policies: &Policies, clock: Arc<dyn Clock>) -> Self {
        let service: Arc<str> = service.as_str().into();
        let stats = |method: Arc<str>| Registry::global().calls(CallKey { side: Side::Server, service: service.clone(), method });
        let own = policies.destinations().filter(|(name, _)| name.as_str() == &*service).flat_map(|(_, d)| &d.grpc_services);
        let own: Vec<_> = own.map(|name| format!("/{name}/")).collect();
        let served = policies.methods().filter(|m| own.iter().any(|prefix| m.path.starts_with(prefix)));
        let methods = served.map(|m| (m.path.clone(), stats(m.path.clone()))).collect();
        Self(Arc::new(Series { methods, other: stats("other".into()), clock }))
    }
}

/// Records every call.
#[derive(Debug, Clone)]
pub(crate) struct Observe<S> {
    inner: S,
    series: Arc<Series>,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;
    fn layer(&self, inner: S) -> Self::Service {
        Observe { inner, series: self.0.clone() }
    }
}

impl<S, B> Service<Request<Body>> for Observe<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
{
    type Response = Response<ObservedBody<B>>;
    type Error = S::Error;
    type Future = ObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let stats = self.series.methods.get(request.uri().path()).unwrap_or(&self.series.other).clone();
        stats.in_flight.fetch_add(1, Relaxed);
        let parent = request.headers().get("traceparent").and_then(|v| TraceContext::parse(v.to_str().ok()?));
        let span = OpenSpan::begin(parent, request.uri().path(), &self.series.clock);
        if let Some(context) = span.as_ref().map(|s| s.context).or(parent) {
            request.extensions_mut().insert(context);
        }
        let record = Record { stats, started: Instant::now(), code: Code::Cancelled, span };
        ObserveFuture { inner: self.inner.call(request), record: Some(record) }
    }
}

/// A call under way. Recorded when dropped, with the last code it was given: CANCELLED if none.
#[derive(Debug)]
struct Record {
    stats: Arc<CallStats>,
    started: Instant,
    code: Code,
    span: Option<Box<OpenSpan>>,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.stats.in_flight.fetch_sub(1, Relaxed);
        self.stats.record(self.code, self.started.elapsed());
        if let Some(span) = self.span.take() {
            span.end(self.code);
        }
    }
}

/// A sampled span that has not ended.
#[derive(Debug)]
struct OpenSpan {
    context: TraceContext,
    parent: u64,
    name: String,
    start: SystemTime,
    clock: Arc<dyn Clock>,
}

impl OpenSpan {
    /// Continues the caller's trace if it is sampled, begins one where there is none; nothing without a sink.
    fn begin(parent: Option<TraceContext>, path: &str, clock: &Arc<dyn Clock>) -> Option<Box<Self>> {
        sink()?;
        if parent.is_some_and(|p| !p.sampled) {
            return None;
        }
        let span_id = rand::random::<u64>().max(1);
        let trace_id = parent.map_or_else(|| rand::random::<u128>().max(1), |p| p.trace_id);
        let context = TraceContext { trace_id, span_id, sampled: true };
        let name = path.trim_start_matches('/').to_owned();
        Some(Box::new(Self { context, parent: parent.map_or(0, |p| p.span_id), name, start: clock.now(), clock: clock.clone() }))
    }

    fn end(self, code: Code) {
        let Some(sink) = sink() else { return };
        sink.record(Span {
            context: self.context,
            parent: self.parent,
            kind: SpanKind::Server,
            start: self.start,
            end: self.clock.now(),
            attributes: vec![
                ("rpc.system", "grpc".into()),
                ("rpc.method", self.name.clone()),
                ("rpc.grpc.status_code", (code as u8).to_string()),
            ],
            error: (code != Code::Ok).then(|| code.name().to_owned()),
            name: self.name,
        });
    }
}

pin_project_lite::pin_project! {
    /// The inner service's future with its record.
    pub(crate) struct ObserveFuture<F> {
        #[pin]
        inner: F,
        record: Option<Record>,
    }
}

impl<F, B, E> Future for ObserveFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ObservedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        let mut record = this.record.take();
        Poll::Ready(answer.map(|response| {
            // A status among the headers: there is nothing more to come.
            if let Some((code, mut ended)) = code(response.headers()).and_then(|code| Some((code, record.take()?))) {
                ended.code = code;
            }
            response.map(|body| ObservedBody { body, record })
        }))
    }
}

pin_project_lite::pin_project! {
    /// A response body that knows how the call ended.
    pub(crate) struct ObservedBody<B> {
        #[pin]
        body: B,
        record: Option<Record>,
    }
}

impl<B: HttpBody<Data = Bytes, Error = Status>> HttpBody for ObservedBody<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        let Some(record) = this.record else { return Poll::Ready(frame) };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(code) = frame.trailers_ref().and_then(code) {
                    record.code = code;
                }
            }
            Some(Err(status)) => record.code = Code::from_number(status.code() as i32),
            // No trailers at all: the protocol was broken.
            None if record.code == Code::Cancelled => record.code = Code::Unknown,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    let number = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    Some(Code::from_number(number))
}
