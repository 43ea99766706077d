//! The server process: one echo service behind several listeners, on one thread.

mod mesh;

use crate::{echo::EchoServer, registry};
use anyhow::Context;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{convert::Infallible, net::IpAddr, time::Duration};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::body::Body;
use tower_service::Service;

/// HTTP/2 windows of both sides and both peers, in bytes.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 16 << 20;

/// Above the largest number of callers, so that no peer opens a second connection.
const MAX_STREAMS: u32 = 1_024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many endpoints to play.
    #[arg(long, default_value_t = 3)]
    listeners: usize,
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The first one's port; 0 for any. With another, the rest are on any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Register them with the Consul at this address.
    #[arg(long)]
    registry: Option<String>,
    /// As a service of the mesh serves, with its whole stack, instead of bare hyper.
    #[command(flatten)]
    mesh: mesh::Options,
}

/// Prints its addresses in one line, then serves until its standard input ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let mut addresses = Vec::new();
    for n in 0..args.listeners {
        let port = if n == 0 { args.port } else { 0 };
        let listener = TcpListener::bind((args.host, port)).await.with_context(|| format!("port {port} of {}", args.host))?;
        addresses.push(listener.local_addr()?);
        if args.mesh.mesh {
            tasks.spawn(mesh::serve(listener, args.mesh.clone()));
        } else {
            tasks.spawn(accept(listener, EchoServer));
        }
    }
    let consul = args.registry.as_deref().map(registry::consul).transpose()?;
    let registered = match &consul {
        Some(consul) => {
            // The registry's probes go to a port of their own: the measured ones serve nothing but echo.
            let listener = TcpListener::bind("127.0.0.1:0").await.context("no port on loopback")?;
            let check = listener.local_addr()?;
            let (health, service) = tonic_health::server::health_reporter();
            health.set_service_status("", tonic_health::ServingStatus::Serving).await;
            tasks.spawn(accept(listener, service));
            registry::register(consul, &addresses, check).await?
        }
        None => Vec::new(),
    };
    println!("{}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    // The parent's end, whatever its kind, closes the pipe.
    let orphaned = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    let read = orphaned.await?.map(drop).context("standard input");
    for one in registered {
        one.withdraw().await;
    }
    read
}

pub(crate) async fn accept<S>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Some(Duration::from_secs(10)));
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        connections.spawn(server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service.clone())));
    }
}
