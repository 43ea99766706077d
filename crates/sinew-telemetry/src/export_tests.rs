//! The exporter against a collector that notes what it is sent.

use super::{BATCH, QUEUE, SpanData, SpanExporterApi, endpoint, start};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use sinew_core::trace::{Span, SpanKind, SpanSink, TraceContext};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, UNIX_EPOCH},
};
use tokio::time::{Instant, sleep};

#[derive(Debug, Clone, Default)]
struct Collector {
    batches: Arc<Mutex<Vec<Vec<SpanData>>>>,
    refuses: Arc<AtomicBool>,
    hangs: bool,
}

impl SpanExporterApi for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if self.refuses.load(Relaxed) {
            return Err(OTelSdkError::InternalFailure("no".into()));
        }
        self.batches.lock().unwrap().push(batch);
        Ok(())
    }
}

fn span(n: u64) -> Span {
    Span {
        context: TraceContext { trace_id: 7, span_id: n, sampled: true },
        parent: 5,
        name: "shop.order.v1.OrderService/GetOrder".into(),
        kind: SpanKind::Server,
        start: UNIX_EPOCH,
        end: UNIX_EPOCH + Duration::from_millis(3),
        attributes: vec![("rpc.system", "grpc".into())],
        error: Some("UNAVAILABLE".into()),
    }
}

#[tokio::test(start_paused = true)]
async fn every_span_arrives_at_the_end_of_the_process() {
    let collector = Collector::default();
    let (queue, exporter) = start(collector.clone(), QUEUE);
    (1..=1_000).for_each(|n| queue.record(span(n)));
    exporter.flush().await;
    let batches = collector.batches.lock().unwrap();
    assert!(batches.iter().all(|b| b.len() <= BATCH));
    let spans: Vec<_> = batches.iter().flatten().collect();
    assert_eq!(spans.len(), 1_000);
    let last = spans[999];
    assert_eq!(last.span_context.trace_id().to_string(), format!("{:032x}", 7));
    assert_eq!(
        (last.span_context.span_id().to_string(), last.parent_span_id.to_string()),
        (format!("{:016x}", 1_000), format!("{:016x}", 5))
    );
    assert!(last.parent_span_is_remote && last.status == opentelemetry::trace::Status::error("UNAVAILABLE"));
}

#[tokio::test(start_paused = true)]
async fn a_lone_span_does_not_wait_for_company_and_a_refusal_ends_nothing() {
    let collector = Collector::default();
    let (queue, _exporter) = start(collector.clone(), QUEUE);
    collector.refuses.store(true, Relaxed);
    queue.record(span(1));
    sleep(Duration::from_secs(2)).await;
    collector.refuses.store(false, Relaxed);
    queue.record(span(2));
    sleep(Duration::from_secs(2)).await;
    let batches = collector.batches.lock().unwrap();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_costs_spans_and_never_a_caller() {
    let (queue, exporter) = start(Collector { hangs: true, ..Collector::default() }, 10);
    let dropped = queue.dropped.load(Relaxed);
    (1..=25).for_each(|n| queue.record(span(n)));
    assert_eq!(queue.dropped.load(Relaxed) - dropped, 15);
    let start = Instant::now();
    exporter.flush().await;
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let read = |vars: &[(&str, &str)]| {
        endpoint(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())).map_err(|e| e.to_string())
    };
    const GENERAL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[GENERAL]), Ok(Some((GENERAL.0, GENERAL.1.into()))));
    assert_eq!(read(&[GENERAL, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(None));
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317");
    assert_eq!(read(&[GENERAL, own]), Ok(Some((own.0, own.1.into()))));
    for (name, value) in
        [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317")]
    {
        let error = read(&[GENERAL, (name, value)]).expect_err(value);
        assert!(error.starts_with(&format!("{name}={value:?}")), "{error}");
    }
}
