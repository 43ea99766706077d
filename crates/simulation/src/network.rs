//! Streams over turmoil's network, in the mesh's own ports.

use sinew_core::{BoxFuture, BoxIo, Connector, Endpoint};
use sinew_server::{Listener, PeerAddr};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{Handle, Id},
};
use turmoil::{
    Sim,
    net::{TcpListener, TcpStream},
};

/// Where every simulated process listens.
pub(crate) const PORT: u16 = 80;

/// What ends by the machine's time must not end at all: a run would be another one on a busy machine.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(86_400);

/// Connects by host name.
#[derive(Debug)]
pub(crate) struct Simulated;

impl Connector for Simulated {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move { Ok(Box::new(dial(&endpoint.host, endpoint.port).await?) as BoxIo) })
    }
}

/// Connects to a host.
pub(crate) async fn dial(host: &str, port: u16) -> io::Result<Wire> {
    TcpStream::connect((host, port)).await.map(Wire::new)
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
            Ok((Box::new(Wire::new(stream)) as BoxIo, PeerAddr(peer)))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

// === dying ===

/// Ends a process. Its streams are closed in the order in which they were opened.
///
/// tokio ends the tasks of a runtime in an order that depends on their numbers, which are counted for all runtimes together: a
/// seed would be another run after another one.
pub(crate) fn crash(sim: &mut Sim<'_>, host: &str) {
    DYING.set(true);
    sim.crash(host);
    DYING.set(false);
}

/// Starts it again, when it has died or ended; what it left is closed in order, too.
pub(crate) fn bounce(sim: &mut Sim<'_>, host: &str) {
    DYING.set(true);
    sim.bounce(host);
    DYING.set(false);
}

type Socket = Arc<Mutex<Option<TcpStream>>>;

thread_local! {
    static DYING: Cell<bool> = const { Cell::new(false) };
    static OPENED: Cell<u64> = const { Cell::new(0) };
    /// Open streams in the order of opening, and whose they are: each process has a runtime of its own.
    static OPEN: RefCell<BTreeMap<u64, (Id, Socket)>> = const { RefCell::new(BTreeMap::new()) };
}

/// A stream that is closed in its turn when its process dies.
#[derive(Debug)]
pub(crate) struct Wire {
    number: u64,
    home: Id,
    socket: Socket,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        let (number, home, socket) = (OPENED.get(), Handle::current().id(), Arc::new(Mutex::new(Some(stream))));
        OPENED.set(number + 1);
        OPEN.with_borrow_mut(|open| open.insert(number, (home, socket.clone())));
        Self { number, home, socket }
    }

    fn with<T>(&self, poll: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.socket.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let close = |socket: &Socket| drop(socket.lock().unwrap_or_else(PoisonError::into_inner).take());
        if DYING.try_with(Cell::get).unwrap_or_default() {
            let all = OPEN.with_borrow(|open| open.values().filter(|(home, _)| *home == self.home).cloned().collect::<Vec<_>>());
            all.iter().for_each(|(_, socket)| close(socket));
        }
        close(&self.socket);
        // None when the thread ends.
        let _ = OPEN.try_with(|open| open.borrow_mut().remove(&self.number));
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}
