//! The real network.

use sinew_core::{BoxFuture, BoxIo, Connector, Endpoint};
use std::io;
use tokio::net::TcpStream;

/// Opens TCP connections: resolves names, tries each address in turn, sets TCP_NODELAY (HTTP/2 writes whole frames;
/// waiting for more to send only adds the peer's delayed acknowledgement).
///
/// Silent peers are noticed by HTTP/2 PINGs, which unlike TCP keepalive prove that the process lives.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxIo)
        })
    }
}
