//! Ended spans, sent to a collector by OTLP over gRPC.
//!
//! Spans are made with ids of our own (see `sinew_core::trace`), so no SDK tracer runs on the path of a call: a sampled
//! span is one push into a bounded queue. What the collector cannot take is dropped and counted, never waited for.

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as SpanExporterApi, SpanLinks},
};
use sinew_core::{
    stats::Registry,
    trace::{Span, SpanKind, SpanSink, install},
};
use std::{
    env,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

/// Spans waiting: a second's worth at two thousand calls a second.
const QUEUE: usize = 2048;
/// Spans in one request; the specification's default.
const BATCH: usize = 512;
/// Longest time that a span waits for company.
const DELAY: Duration = Duration::from_secs(1);
/// Longest time that the last spans may take when the process ends.
const FLUSH: Duration = Duration::from_secs(3);

/// A variable of the exporter that cannot be honoured.
#[derive(Debug, thiserror::Error)]
#[error("{variable}={value:?}: {reason}")]
pub struct ExportError {
    /// Which variable.
    pub variable: &'static str,
    /// What it was.
    pub value: String,
    /// What would be right.
    pub reason: String,
}

/// The task that sends spans. [`flush`](Self::flush) it at the end of the process; dropping it ends it.
#[derive(Debug)]
pub struct Exporter {
    task: JoinHandle<()>,
    stop: mpsc::Sender<()>,
}

#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

impl SpanSink for Queue {
    fn record(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Exporter {
    /// Starts exporting if `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` is set, and
    /// `OTEL_SDK_DISABLED` is not. The exporter reads the other `OTEL_EXPORTER_OTLP_*` variables itself.
    ///
    /// # Errors
    ///
    /// An endpoint or a protocol that cannot be honoured.
    pub fn from_env(service: &str, instance: &str) -> Result<Option<Self>, ExportError> {
        let Some((variable, value)) = endpoint(|name| env::var(name).ok())? else { return Ok(None) };
        let built = SpanExporter::builder().with_tonic().build();
        let mut exporter = built.map_err(|e| ExportError { variable, value, reason: e.to_string() })?;
        let resource = Resource::builder().with_service_name(service.to_owned());
        exporter.set_resource(&resource.with_attribute(KeyValue::new("service.instance.id", instance.to_owned())).build());
        let (queue, exporter) = start(exporter, QUEUE);
        // Installed for the life of the process, which is what metrics and traces are per.
        install(Box::leak(Box::new(queue)));
        Ok(Some(exporter))
    }

    /// Sends what is queued, within a few seconds.
    pub async fn flush(mut self) {
        let _ = self.stop.try_send(());
        let _ = timeout(FLUSH, &mut self.task).await;
    }
}

fn start(exporter: impl SpanExporterApi + 'static, capacity: usize) -> (Queue, Exporter) {
    let (spans, queue) = mpsc::channel(capacity);
    let (stop, stopped) = mpsc::channel(1);
    let task = tokio::spawn(send(exporter, queue, stopped));
    (Queue { spans, dropped: Registry::global().counter("spans_dropped_total", Vec::new()) }, Exporter { task, stop })
}

/// The endpoint, and the variable that names it; `None` where no traces are asked for.
fn endpoint(get: impl Fn(&'static str) -> Option<String>) -> Result<Option<(&'static str, String)>, ExportError> {
    let get = |name| get(name).filter(|v| !v.is_empty()).map(|value| (name, value));
    let endpoint = get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| get("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let disabled = get("OTEL_SDK_DISABLED").is_some_and(|(_, v)| v.eq_ignore_ascii_case("true"));
    let Some((variable, value)) = endpoint.filter(|_| !disabled) else { return Ok(None) };
    let protocol = get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| get("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some((variable, value)) = protocol.filter(|(_, v)| v != "grpc") {
        let reason = "spans are sent as \"grpc\" only; name the collector's gRPC port, 4317 as a rule".into();
        return Err(ExportError { variable, value, reason });
    }
    if !value.starts_with("http://") {
        let reason = "not an endpoint; write http://host:4317 (TLS is for a collector nearby to add)".into();
        return Err(ExportError { variable, value, reason });
    }
    Ok(Some((variable, value)))
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(exporter: impl SpanExporterApi, mut queue: mpsc::Receiver<Span>, mut stopped: mpsc::Receiver<()>) {
    let mut tick = interval(DELAY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    let mut failing = false;
    loop {
        let last = tokio::select! {
            biased;
            _ = stopped.recv() => true,
            Some(span) = queue.recv() => {
                batch.push(data(span));
                if batch.len() < BATCH {
                    continue;
                }
                false
            }
            _ = tick.tick() => false,
        };
        if last {
            while let Ok(span) = queue.try_recv() {
                batch.push(data(span));
            }
        }
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH));
            let result = exporter.export(std::mem::replace(&mut batch, rest)).await;
            match (&result, failing) {
                (Err(error), false) => tracing::warn!(%error, "spans cannot be exported; they are dropped until they can"),
                (Ok(()), true) => tracing::info!("spans are exported again"),
                _ => {}
            }
            failing = result.is_err();
        }
        if last {
            return;
        }
    }
}

fn data(span: Span) -> SpanData {
    let context = SpanContext::new(
        TraceId::from_bytes(span.context.trace_id.to_be_bytes()),
        SpanId::from_bytes(span.context.span_id.to_be_bytes()),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    SpanData {
        span_context: context,
        parent_span_id: SpanId::from_bytes(span.parent.to_be_bytes()),
        parent_span_is_remote: matches!(span.kind, SpanKind::Server | SpanKind::Consumer) && span.parent != 0,
        span_kind: match span.kind {
            SpanKind::Client => OtelKind::Client,
            SpanKind::Server => OtelKind::Server,
            SpanKind::Producer => OtelKind::Producer,
            SpanKind::Consumer => OtelKind::Consumer,
            SpanKind::Internal => OtelKind::Internal,
        },
        name: span.name.into(),
        start_time: span.start,
        end_time: span.end,
        attributes: span.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("sinew").with_version(env!("CARGO_PKG_VERSION")).build(),
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
