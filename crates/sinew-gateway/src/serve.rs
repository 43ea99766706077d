//! The accept loop, and one task per connection: HTTP/1.1 and HTTP/2 on one port, told apart by their first bytes.

use crate::{edge::Peer, limits::Limits, stack::Stack};
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use sinew_core::stats::Registry;
use std::{io, net::SocketAddr, pin::pin, sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt;

/// Wait after an accept that failed: out of file descriptors is the usual reason, and passes when connections end.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What every HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Flow-control windows, in bytes: a stream's holds a usual request whole, a connection's a few of those.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Accepts until `draining` is cancelled, then lets what is under way finish. Dropping the future ends every connection.
pub(crate) async fn serve(listener: TcpListener, stack: Stack, limits: &Limits, draining: CancellationToken) {
    let open = Registry::global().gauge("server_connections", vec![("service", "gateway".to_owned())]);
    let refused = Registry::global().counter("server_connections_refused_total", vec![("service", "gateway".to_owned())]);
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
    drop(listener);
    let under_way = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain, under_way).await.is_err() {
        tracing::warn!(connections = connections.len(), "calls did not finish in time and are cut off");
    }
    open.store(0, Relaxed);
}

async fn connection(stream: TcpStream, peer: SocketAddr, stack: Stack, limits: Limits, draining: CancellationToken) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let (mut reader, writer) = stream.into_split();
    let first = tokio::select! {
        biased;
        () = draining.cancelled() => return,
        first = timeout(limits.headers, first_bytes(&mut reader)) => first,
    };
    // Whoever says nothing for so long, or goes away, is no client.
    let Ok(Ok((first, is_http2))) = first else { return };
    let stream = tokio::io::join(io::Cursor::new(first).chain(reader), writer);
    let result = if is_http2 {
        http2_connection(stream, peer, stack, &limits, draining).await
    } else {
        http1_connection(stream, peer, stack, &limits, draining).await
    };
    if let Err(error) = result {
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection ended");
    }
}

/// Reads until the bytes are the HTTP/2 preface or cannot become it.
async fn first_bytes(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<(Vec<u8>, bool)> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while PREFACE.starts_with(&first) && first.len() < PREFACE.len() {
        let room = (PREFACE.len() - first.len()) as u64;
        if reader.take(room).read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let is_http2 = first == PREFACE;
    Ok((first, is_http2))
}

async fn http2_connection<S>(
    stream: S,
    peer: SocketAddr,
    stack: Stack,
    limits: &Limits,
    draining: CancellationToken,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(limits.header_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.keepalive);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service(stack, peer)));
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = draining.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn http1_connection<S>(
    stream: S,
    peer: SocketAddr,
    stack: Stack,
    limits: &Limits,
    draining: CancellationToken,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    // hyper's parser needs 8 KiB at least.
    builder.timer(TokioTimer::new()).header_read_timeout(limits.headers).max_buf_size((limits.header_bytes as usize).max(8192));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service(stack, peer)));
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = draining.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

fn service(
    stack: Stack,
    peer: SocketAddr,
) -> TowerToHyperService<
    impl tower_service::Service<Request<Incoming>, Response = http::Response<Body>, Error = std::convert::Infallible, Future: Send>
    + Clone,
> {
    TowerToHyperService::new(stack.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        request
    }))
}
