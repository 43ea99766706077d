//! The admin port: metrics, health for probes that speak only HTTP, and admin gRPC. Never in the registry as a service.

use crate::Readiness;
use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use sinew_core::{BoxFuture, Standing};
use std::sync::Arc;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Writes all metrics in Prometheus's text format.
pub(crate) type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What `/readyz` answers by.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) readiness: Readiness,
    /// How the server stands with the registry; nothing where it is to be known to nobody.
    pub(crate) known: Option<watch::Receiver<Standing>>,
}

impl Ready {
    /// The conditions that do not hold, or else the registration. One that the registry has not taken yet serves whoever knows
    /// it, but cannot replace one that others find: a rollout that waits for `/readyz` waits for the registry.
    fn missing(&self) -> String {
        let conditions = self.readiness.missing();
        match self.known.as_ref().map(|known| known.borrow().clone()) {
            _ if !conditions.is_empty() => conditions.join(", "),
            Some(Standing::Unknown) => "registration".to_owned(),
            Some(Standing::Waiting(why)) => format!("registration ({why})"),
            Some(Standing::Refused(refusal)) => format!("registration ({refusal})"),
            None | Some(Standing::Registered | Standing::Stale(_)) => String::new(),
        }
    }
}

/// Serves until `stopped` is cancelled.
pub(crate) fn serve(
    listener: TcpListener,
    services: Routes,
    metrics: Metrics,
    ready: Ready,
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
                let missing = ready.missing();
                if missing.is_empty() {
                    (StatusCode::OK, "ready\n".to_owned())
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n"))
                }
            }),
        );
    Box::pin(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await {
            tracing::error!(%error, "the admin port failed");
        }
    })
}
