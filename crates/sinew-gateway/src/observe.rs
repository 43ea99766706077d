//! One record per call: how it ended, how long it took, its span, and its place among the calls under way.
//!
//! A call that is passed through ends with its trailers, so the record lives in the response body and is made when that
//! has ended or was dropped.

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use sinew_core::{
    Clock,
    classify::Code,
    stats::CallStats,
    trace::{Span, SpanKind, TraceContext, sink},
};
use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::SystemTime,
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tonic::{Status, body::Body};

/// A call under way. Recorded when dropped, with the last code it was given: CANCELLED if none.
#[derive(Debug)]
pub(crate) struct Record {
    stats: Arc<CallStats>,
    started: Instant,
    code: Code,
    span: Option<Box<OpenSpan>>,
    _permit: Option<OwnedSemaphorePermit>,
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

impl Record {
    /// Begins to record. A client's trace goes on; whether it is sampled is ours to say, by whether there is a sink.
    pub(crate) fn begin(
        stats: Arc<CallStats>,
        headers: &HeaderMap,
        clock: &Arc<dyn Clock>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        stats.in_flight.fetch_add(1, Relaxed);
        let parent = headers.get("traceparent").and_then(|v| TraceContext::parse(v.to_str().ok()?));
        let span = sink().map(|_| {
            let trace_id = parent.map_or_else(|| rand::random::<u128>().max(1), |p| p.trace_id);
            let context = TraceContext { trace_id, span_id: rand::random::<u64>().max(1), sampled: true };
            let (parent, start) = (parent.map_or(0, |p| p.span_id), clock.now());
            Box::new(OpenSpan { context, parent, name: "unknown".into(), start, clock: clock.clone() })
        });
        Self { stats, started: Instant::now(), code: Code::Cancelled, span, _permit: permit }
    }

    /// Says which method it turned out to be.
    pub(crate) fn method(&mut self, stats: &Arc<CallStats>, path: &str) {
        self.stats.in_flight.fetch_sub(1, Relaxed);
        stats.in_flight.fetch_add(1, Relaxed);
        self.stats = stats.clone();
        if let Some(span) = &mut self.span {
            path.trim_start_matches('/').clone_into(&mut span.name);
        }
    }

    /// The span under which the calls behind it go.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        self.span.as_ref().map(|span| span.context)
    }

    /// Keeps the record with the response until that has ended.
    pub(crate) fn finish(mut self, response: Response<Body>) -> Response<Body> {
        let known = response.extensions().get::<Code>().copied().or_else(|| code(response.headers()));
        match known {
            Some(code) => {
                self.code = code;
                response
            }
            None => response.map(|body| Body::new(Observed { body, record: self })),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.stats.in_flight.fetch_sub(1, Relaxed);
        self.stats.record(self.code, self.started.elapsed());
        let (Some(span), Some(sink)) = (self.span.take(), sink()) else { return };
        sink.record(Span {
            context: span.context,
            parent: span.parent,
            kind: SpanKind::Server,
            start: span.start,
            end: span.clock.now(),
            attributes: vec![("rpc.method", span.name.clone()), ("rpc.grpc.status_code", (self.code as u8).to_string())],
            error: (self.code != Code::Ok).then(|| self.code.name().to_owned()),
            name: span.name,
        });
    }
}

pin_project_lite::pin_project! {
    /// A response body that knows how the call ended.
    struct Observed {
        #[pin]
        body: Body,
        record: Record,
    }
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(code) = frame.trailers_ref().and_then(code) {
                    this.record.code = code;
                }
            }
            Some(Err(status)) => this.record.code = Code::from_number(status.code() as i32),
            None if this.record.code == Code::Cancelled => this.record.code = Code::Unknown,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_number(headers.get("grpc-status")?.to_str().ok()?.parse().ok()?))
}
