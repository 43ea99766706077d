//! The port through which connections arrive, so that a simulated network can take the real one's place.

use sinew_core::{BoxFuture, BoxIo};
use std::{fmt, io, net::SocketAddr};
use tokio::net::TcpListener;

/// Where a connection came from; in every request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Accepts byte streams.
pub trait Listener: fmt::Debug + Send + 'static {
    /// The next connection. Errors are of the moment (too many open files): the caller waits and asks again.
    ///
    /// # Cancel safety
    ///
    /// A dropped call loses no connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, PeerAddr)>>;

    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, PeerAddr)>> {
        Box::pin(async move {
            let (stream, peer) = TcpListener::accept(self).await?;
            // Answers are small and waited for. It fails for a peer that is gone already, which reading will tell.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "answers may be delayed");
            }
            Ok((Box::new(stream) as BoxIo, PeerAddr(peer)))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}
