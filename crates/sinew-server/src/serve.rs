//! The accept loop, and one task per connection.

use crate::{Limits, Listener, PeerAddr, io::Opening};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use sinew_core::{BoxIo, stats::Registry};
use std::{convert::Infallible, sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Service, ServiceExt};

/// Wait after an accept that failed: out of file descriptors is the usual reason, and passes when connections end.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Accepts until `draining` is cancelled, then says GOAWAY to every connection and waits for what is under way.
/// Dropping the future ends every connection.
pub(crate) async fn serve<L, S>(mut listener: L, stack: S, limits: &Limits, draining: CancellationToken, service: &str)
where
    L: Listener,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let open = Registry::global().gauge("server_connections", vec![("service", service.to_owned())]);
    let refused = Registry::global().counter("server_connections_refused_total", vec![("service", service.to_owned())]);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = draining.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => open.store(connections.len() as i64, Relaxed),
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= limits.connections => {
                    refused.fetch_add(1, Relaxed);
                }
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, stack.clone(), limits.clone(), draining.clone()));
                    open.store(connections.len() as i64, Relaxed);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections at the moment");
                    let _ = timeout(ACCEPT_BACKOFF, draining.cancelled()).await;
                }
            },
        }
    }
    // The listener stays open while we drain: a peer that connects now is told GOAWAY instead of being refused, and
    // goes elsewhere without counting us as broken.
    let under_way = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain, under_way).await.is_err() {
        tracing::warn!(connections = connections.len(), "calls did not finish in time and are cut off");
    }
    open.store(0, Relaxed);
}

async fn connection<S>(stream: BoxIo, peer: PeerAddr, stack: S, limits: Limits, draining: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let stack = stack.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request
    });
    let connection =
        builder(&limits).serve_connection(TokioIo::new(Opening::new(stream, limits.preface)), TowerToHyperService::new(stack));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A peer that goes away without a word is no news.
        tracing::debug!(peer = %peer.0, error = &error as &dyn std::error::Error, "connection ended");
    }
}

fn builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // Nobody reads it, and it would be the one thing in an answer that a simulation cannot repeat.
        .auto_date_header(false)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(limits.header_list)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_pending_accept_reset_streams(limits.pending_resets)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}
