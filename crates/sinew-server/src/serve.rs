//! The accept loop, and one task per connection.

use crate::{Draining, Limits, Listener, PeerAddr, flood::Floods, io::Patient};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use sinew_core::{BoxIo, stats::Registry};
use std::{
    convert::Infallible,
    io::ErrorKind,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Status, body::Body};
use tower::{Service, ServiceExt};

/// Wait after an accept that failed: out of file descriptors is the usual reason, and passes when connections end.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Accepts until told to drain, then says GOAWAY to every connection and waits for what is under way. Dropping the future
/// ends every connection.
pub(crate) async fn serve<L, S, B>(mut listener: L, stack: S, limits: Limits, draining: Draining, service: String)
where
    L: Listener,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: HttpBody<Data = Bytes, Error = Status> + Send + 'static,
{
    let open = Registry::global().gauge("server_connections", vec![("service", service.clone())]);
    let floods = Arc::new(Floods::new(&service));
    let refused = Registry::global().counter("server_connections_refused_total", vec![("service", service)]);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = draining.begun() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => open.store(connections.len() as i64, Relaxed),
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= limits.connections => {
                    refused.fetch_add(1, Relaxed);
                }
                Ok((stream, peer)) => {
                    connections.spawn(connection(Patient::new(stream, &limits, floods.clone()), peer, stack.clone(), limits.clone(), draining.clone()));
                    open.store(connections.len() as i64, Relaxed);
                }
                // One that was gone before we came to it says nothing about the next.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections at the moment");
                    let _ = timeout(ACCEPT_BACKOFF, draining.begun()).await;
                }
            },
        }
    }
    // Whoever comes now is refused at once and goes elsewhere, instead of waiting for somebody who is leaving.
    drop(listener);
    let under_way = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain, under_way).await.is_err() {
        tracing::warn!(connections = connections.len(), "calls did not finish in time and are cut off");
    }
    open.store(0, Relaxed);
}

async fn connection<S, B>(stream: Patient<BoxIo>, peer: PeerAddr, stack: S, limits: Limits, draining: Draining)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: HttpBody<Data = Bytes, Error = Status> + Send + 'static,
{
    let stack = stack.map_request({
        let draining = draining.clone();
        move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(draining.clone());
            request
        }
    });
    let connection = builder(&limits).serve_connection(TokioIo::new(stream), TowerToHyperService::new(stack));
    let mut connection = std::pin::pin!(connection);
    let end = tokio::select! {
        biased;
        result = connection.as_mut() => Ok(result),
        // The whole server's time for that is kept by the accept loop.
        () = draining.begun() => Err(None),
        () = after(limits.connection_age.map(|age| age.mul_f64(rand::random_range(0.9..=1.1)))) => Err(limits.connection_age_grace),
    };
    let result = match end {
        Ok(result) => result,
        Err(grace) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                result = connection => result,
                () = after(grace) => {
                    tracing::debug!(peer = %peer.0, "calls outlived an old connection's grace and are cut off");
                    return;
                }
            }
        }
    };
    if let Err(error) = result {
        // A peer that goes away without a word is no news.
        tracing::debug!(peer = %peer.0, error = &error as &dyn std::error::Error, "connection ended");
    }
}

/// Returns after that time; never without one.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
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
