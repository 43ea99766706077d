//! Logs, traces and metrics. The only crate that knows OpenTelemetry and Prometheus.
//!
//! The rest of the mesh counts in plain atomics and ends its spans into a port, both of `sinew-core`; here they become
//! what tools read.

mod export;
mod logs;
mod metrics;

pub use export::{ExportError, Exporter};
pub use logs::{Format, LogError, init_logs};
pub use metrics::metrics_text;
