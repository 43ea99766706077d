//! Logs, traces and metrics: the only crate that knows OpenTelemetry and Prometheus.
