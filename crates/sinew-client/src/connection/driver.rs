//! Opens a connection and drives it to its end, in one task.

use super::{Connection, paced::Paced};
use crate::config::{Config, ConnectionConfig};
use bytes::Bytes;
use h2::{
    PingPong,
    client::{Builder, SendRequest},
};
use sinew_core::{BoxIo, Connector, Endpoint};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{futures::OwnedNotified, mpsc::UnboundedSender},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

/// What to connect to, and how.
#[derive(Debug)]
pub(crate) struct Spec {
    /// The endpoint's number, and the connection's; both come back in every [`Event`], with the endpoint's id.
    pub(crate) key: (u64, u64),
    pub(crate) endpoint: Arc<Endpoint>,
    /// Wait this long first.
    pub(crate) after: Duration,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) config: Arc<Config>,
}

/// News of one connection.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: Arc<str>,
    pub(crate) key: (u64, u64),
    pub(crate) happened: Happened,
}

/// What can happen to a connection.
#[derive(Debug)]
pub(crate) enum Happened {
    /// The wait is over, the attempt begins.
    Dialing,
    /// The server answered a PING: calls may be sent.
    Ready(Arc<Connection>),
    /// A PING is overdue (true), or was answered after all (false).
    Suspect(bool),
    /// The server takes no new streams.
    Draining,
    /// It is over. Never comes after `Draining` or a retirement.
    Lost(Lost),
}

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no TCP connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("HTTP/2: {0}")]
    Http2(#[source] h2::Error),
    #[error("no answer to the first PING within {0:?}")]
    HandshakeTimeout(Duration),
    #[error("closed by the server")]
    Closed,
    #[error("no answer to a PING within {0:?}")]
    Silent(Duration),
}

/// Connects, reports, drives until the end.
///
/// # Cancel safety
///
/// Dropping the future closes the connection at once; its streams fail.
pub(crate) async fn run(spec: Spec, events: UnboundedSender<Event>) {
    let tell = |happened| {
        // Nobody listens once the destination is gone, and then this task is about to be.
        let _ = events.send(Event { id: spec.endpoint.id.clone(), key: spec.key, happened });
    };
    sleep(spec.after).await;
    tell(Happened::Dialing);
    // In a scope of its own, or the task would keep room for what was opened beside the driver that has it.
    let driver = {
        let opened = match open(&spec).await {
            Ok(opened) => opened,
            Err(lost) => return tell(Happened::Lost(lost)),
        };
        tell(Happened::Ready(opened.connection.clone()));
        Box::pin(Driver::new(opened, &spec, &events))
    };
    if let Some(lost) = driver.await {
        tell(Happened::Lost(lost));
    }
}

struct Opened {
    io: h2::client::Connection<Paced<BoxIo>, Bytes>,
    pings: PingPong,
    connection: Arc<Connection>,
}

async fn open(spec: &Spec) -> Result<Opened, Lost> {
    let config = &spec.config.connection;
    let io = match timeout(config.connect_timeout, spec.connector.connect(&spec.endpoint)).await {
        Ok(Ok(io)) => io,
        Ok(Err(error)) => return Err(Lost::Connect(error)),
        Err(_) => return Err(Lost::ConnectTimeout(config.connect_timeout)),
    };
    // On the heap, as is the driver: a task that only waits to connect should not have room for all of HTTP/2.
    match timeout(config.handshake_timeout, Box::pin(handshake(io, config))).await {
        Ok(opened) => opened,
        Err(_) => Err(Lost::HandshakeTimeout(config.handshake_timeout)),
    }
}

/// h2's own handshake succeeds against a listener that never speaks; an answered PING proves a server, and comes after
/// its SETTINGS, so that the limit of streams is known from the first call.
async fn handshake(io: BoxIo, config: &ConnectionConfig) -> Result<Opened, Lost> {
    let (send, mut io) = Builder::new()
        .initial_window_size(config.stream_window)
        .initial_connection_window_size(config.connection_window)
        .data_frame_budget(data_frame_budget(config))
        .max_frame_size(MAX_FRAME)
        .reset_stream_duration(config.reset_stream_duration)
        .enable_push(false)
        .handshake::<_, Bytes>(Paced::new(io))
        .await
        .map_err(Lost::Http2)?;
    // Taken once from a fresh connection: it is there.
    let mut pings = io.ping_pong().ok_or(Lost::Closed)?;
    pings.send_ping(h2::Ping::opaque()).map_err(Lost::Http2)?;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(end) = Pin::new(&mut io).poll(cx) {
            return Poll::Ready(Err(end.err().map_or(Lost::Closed, Lost::Http2)));
        }
        pings.poll_pong(cx).map(|pong| pong.map(drop).map_err(Lost::Http2))
    })
    .await?;
    let connection = Arc::new(Connection::new(send, io.max_concurrent_send_streams()));
    Ok(Opened { io, pings, connection })
}

/// Large enough that a big message costs few frames, small enough that it does not hold up the small ones behind it.
const MAX_FRAME: u32 = 64 << 10;

/// h2 charges unread DATA frames below 256 bytes to the whole connection, and ends it when the budget is gone: the
/// default would let one slow reader of small messages end everybody's calls. Sixteen times the window is more than
/// the window can hold in frames of 16 bytes or more, so that flow control, which only stops the stream, acts first.
fn data_frame_budget(config: &ConnectionConfig) -> usize {
    config.connection_window as usize * 16
}

/// The running connection.
struct Driver<'a> {
    io: h2::client::Connection<Paced<BoxIo>, Bytes>,
    /// Asked after each poll whether streams can still be opened; `None` when draining.
    live: Option<Live>,
    pings: PingPong,
    /// When the unanswered PING was sent.
    pinged: Option<Instant>,
    last_ping: Instant,
    suspect: bool,
    timer: Pin<Box<Sleep>>,
    spec: &'a Spec,
    events: &'a UnboundedSender<Event>,
}

struct Live {
    send: SendRequest<Bytes>,
    connection: Arc<Connection>,
    retired: Pin<Box<OwnedNotified>>,
}

impl<'a> Driver<'a> {
    fn new(opened: Opened, spec: &'a Spec, events: &'a UnboundedSender<Event>) -> Self {
        let Opened { io, pings, connection } = opened;
        let now = Instant::now();
        let retired = Box::pin(connection.retire.clone().notified_owned());
        Self {
            io,
            live: Some(Live { send: connection.send.clone(), connection, retired }),
            pings,
            pinged: None,
            last_ping: now,
            suspect: false,
            timer: Box::pin(sleep_until(now + spec.config.connection.keepalive_interval)),
            spec,
            events,
        }
    }

    fn tell(&self, happened: Happened) {
        let _ = self.events.send(Event { id: self.spec.endpoint.id.clone(), key: self.spec.key, happened });
    }

    /// GOAWAY shows as an error of `poll_ready`: h2 reports it nowhere else while streams are still running.
    fn poll_live(&mut self, cx: &mut Context<'_>) {
        let Some(live) = &mut self.live else { return };
        let gone_away = matches!(live.send.poll_ready(cx), Poll::Ready(Err(_)));
        let retired = live.retired.as_mut().poll(cx).is_ready();
        if !gone_away && !retired {
            live.connection.limit.store(self.io.max_concurrent_send_streams(), Relaxed);
            return;
        }
        self.live = None;
        if !retired {
            self.tell(Happened::Draining);
        }
        // With our handles gone h2 may have nothing left to wait for: let it notice.
        cx.waker().wake_by_ref();
    }

    /// Sends PINGs and judges their answers; the reason if the server is given up.
    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        let config = &self.spec.config.connection;
        if self.pinged.is_some() && matches!(self.pings.poll_pong(cx), Poll::Ready(Ok(_))) {
            self.pinged = None;
            if std::mem::take(&mut self.suspect) {
                self.tell(Happened::Suspect(false));
            }
            // In the past if the answer was late: then the next PING follows at once.
            self.timer.as_mut().reset(self.last_ping + config.keepalive_interval);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let next = match self.pinged {
                None if self.in_use() || now >= self.last_ping + config.keepalive_idle => {
                    if self.pings.send_ping(h2::Ping::opaque()).is_ok() {
                        (self.pinged, self.last_ping) = (Some(now), now);
                        // Registers for the answer.
                        let _ = self.pings.poll_pong(cx);
                    }
                    now + config.suspect_after
                }
                None => now + config.keepalive_interval,
                Some(sent) if now >= sent + config.keepalive_timeout => return Poll::Ready(Lost::Silent(config.keepalive_timeout)),
                Some(sent) => {
                    if !std::mem::replace(&mut self.suspect, true) {
                        self.tell(Happened::Suspect(true));
                    }
                    sent + config.keepalive_timeout
                }
            };
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    /// A draining connection has streams, or it would have ended.
    fn in_use(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.connection.streams() > 0)
    }
}

impl Future for Driver<'_> {
    /// Why it was lost; `None` if it ended as it should, draining.
    type Output = Option<Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let lost = match Pin::new(&mut this.io).poll(cx) {
            Poll::Ready(Ok(())) => Lost::Closed,
            Poll::Ready(Err(error)) => Lost::Http2(error),
            Poll::Pending => {
                this.poll_live(cx);
                std::task::ready!(this.poll_keepalive(cx))
            }
        };
        Poll::Ready(this.live.is_some().then_some(lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::TcpConnector;
    use tokio::sync::mpsc;

    /// Ten thousand endpoints that cannot be reached have as many of these.
    #[test]
    fn a_task_that_waits_to_connect_has_no_room_for_http_2() {
        let (events, _inbox) = mpsc::unbounded_channel();
        let endpoint = Arc::new(Endpoint::new("t-0", "localhost", 1));
        let (connector, config) = (Arc::new(TcpConnector::default()), Arc::default());
        let task = run(Spec { key: (0, 0), endpoint, after: Duration::ZERO, connector, config }, events);
        assert!(size_of_val(&task) <= 512, "{} bytes", size_of_val(&task));
    }
}
