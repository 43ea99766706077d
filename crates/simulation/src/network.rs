//! Streams over turmoil's network, in the mesh's own ports.

use sinew_core::{BoxFuture, BoxIo, Connector, Endpoint};
use sinew_server::{Listener, PeerAddr};
use std::{fmt, io, net::SocketAddr, time::Duration};
use turmoil::net::{TcpListener, TcpStream};

/// Where every simulated process listens.
pub(crate) const PORT: u16 = 80;

/// What ends by the machine's time must not end at all: a run would be another one on a busy machine.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(86_400);

/// Connects by host name.
#[derive(Debug)]
pub(crate) struct Simulated;

impl Connector for Simulated {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
            Ok(Box::new(stream) as BoxIo)
        })
    }
}

/// Accepts at [`PORT`].
pub(crate) struct Door(TcpListener);

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl Door {
    pub(crate) async fn open() -> io::Result<Self> {
        TcpListener::bind(("0.0.0.0", PORT)).await.map(Self)
    }
}

impl Listener for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, PeerAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxIo, PeerAddr(peer)))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
