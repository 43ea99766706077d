//! W3C trace context: which trace a call belongs to. <https://www.w3.org/TR/trace-context/>

use crate::Rng;
use std::{fmt, sync::OnceLock, time::SystemTime};

/// Position in a trace, as the `traceparent` header carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The whole trace; never 0.
    pub trace_id: u128,
    /// The span that is the parent of what comes next; never 0.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` header. Malformed ones are as good as absent, as the specification asks.
    pub fn parse(header: &str) -> Option<Self> {
        let lower_hex = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let mut parts = header.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let sizes = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        // Version 00 has four parts; later versions may have more; ff is not allowed.
        let count = version != "ff" && (version != "00" || parts.next().is_none());
        if !sizes || !count || ![version, trace, span, flags].into_iter().all(lower_hex) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace_id, span_id, sampled })
    }

    /// The `traceparent` header's 55 bytes, without allocating.
    pub fn encode(&self) -> [u8; 55] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let mut put = |at: usize, digits: usize, value: u128| {
            for i in 0..digits {
                if let Some(byte) = out.get_mut(at + digits - 1 - i) {
                    *byte = HEX[((value >> (4 * i)) & 15) as usize];
                }
            }
        };
        put(3, 32, self.trace_id);
        put(36, 16, self.span_id.into());
        put(53, 2, u128::from(u8::from(self.sampled)));
        out
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Which side of a call or message a span describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// The caller of a remote procedure.
    Client,
    /// Its callee.
    Server,
    /// The sender of a message.
    Producer,
    /// Its receiver.
    Consumer,
    /// Work inside one process.
    Internal,
}

/// A span that has ended. Only sampled ones are made.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its own place in the trace.
    pub context: TraceContext,
    /// The span above, 0 for a root.
    pub parent: u64,
    /// Name: `shop.order.v1.OrderService/PlaceOrder`.
    pub name: String,
    /// Which side.
    pub kind: SpanKind,
    /// Wall-clock start.
    pub start: SystemTime,
    /// Wall-clock end.
    pub end: SystemTime,
    /// OpenTelemetry attribute names and values.
    pub attributes: Vec<(&'static str, String)>,
    /// What went wrong, if anything did.
    pub error: Option<String>,
}

/// Takes ended spans; must not block.
pub trait SpanSink: fmt::Debug + Send + Sync {
    /// Takes one span, or drops it when it cannot keep up.
    fn record(&self, span: Span);
}

static SINK: OnceLock<&'static dyn SpanSink> = OnceLock::new();

/// Installs the process's sink, once. Until then [`sink`] is `None` and new traces are not sampled.
pub fn install(sink: &'static dyn SpanSink) {
    let _ = SINK.set(sink);
}

/// The process's sink, if traces are exported at all.
pub fn sink() -> Option<&'static dyn SpanSink> {
    SINK.get().copied()
}

/// A span that has begun, in a trace that is recorded: for work that is no call.
#[derive(Debug)]
pub struct OpenSpan {
    context: TraceContext,
    parent: u64,
    start: SystemTime,
    sink: &'static dyn SpanSink,
}

impl OpenSpan {
    /// Begins a span below its cause; none where nothing is recorded.
    pub fn below(cause: TraceContext, now: SystemTime, rng: &dyn Rng) -> Option<Self> {
        let sink = sink().filter(|_| cause.sampled)?;
        let context = TraceContext { span_id: rng.next_u64().max(1), ..cause };
        Some(Self { context, parent: cause.span_id, start: now, sink })
    }

    /// What is below it.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Ends it.
    pub fn end(
        self,
        name: String,
        kind: SpanKind,
        now: SystemTime,
        attributes: Vec<(&'static str, String)>,
        error: Option<String>,
    ) {
        let Self { context, parent, start, sink } = self;
        sink.record(Span { context, parent, name, kind, start, end: now, attributes, error });
    }
}

#[cfg(test)]
mod tests {
    use super::TraceContext;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn round_trip() {
        let context = TraceContext::parse(GOOD).expect("valid");
        assert!(context.sampled);
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(context.encode(), GOOD.as_bytes());
    }

    #[test]
    fn malformed_is_absent() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
        assert!(TraceContext::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-later").is_some());
    }
}
