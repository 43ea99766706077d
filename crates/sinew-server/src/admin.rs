//! The admin port: metrics, health for probes that speak only HTTP, and admin gRPC. Never in the registry as a service.

use crate::Readiness;
use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use sinew_core::BoxFuture;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Writes all metrics in Prometheus's text format.
pub(crate) type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves until `stopped` is cancelled.
pub(crate) fn serve(
    listener: TcpListener,
    services: Routes,
    metrics: Metrics,
    readiness: Readiness,
    stopped: CancellationToken,
) -> BoxFuture<'static, ()> {
    let text = [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let router: Router = services
        .prepare()
        .into_axum_router()
        .route("/metrics", get(move || async move { (text, metrics()) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                let missing = readiness.missing();
                if missing.is_empty() {
                    (StatusCode::OK, "ready\n".to_owned())
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
                }
            }),
        );
    Box::pin(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await {
            tracing::error!(%error, "the admin port failed");
        }
    })
}
