//! The one place through which a connection's bytes pass.
//!
//! hyper waits for a preface without limit, so thousands of silent connections could be held open for nothing; and for
//! the rest of a request's headers until its own PING goes unanswered. Here both have the same limit. And h2 answers what a
//! peer sends without telling anybody: who floods us with it is noticed here, and told so if it can be.

use crate::{
    Limits,
    flood::{Flood, Floods, Meter},
    frames::Frames,
};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A byte stream whose peer must finish in time what it begins, the opening of the connection above all, and may not flood us.
pub(crate) struct Patient<T> {
    inner: T,
    frames: Frames,
    patience: Duration,
    /// Runs while something is owed; set only when there is nothing to read, so a busy connection never has one.
    limit: Option<Pin<Box<Sleep>>>,
    floods: Arc<Floods>,
    /// Whether all that was written is whole frames: h2 flushes when it has nothing left to write.
    flushed: bool,
}

impl<T> Patient<T> {
    pub(crate) fn new(inner: T, limits: &Limits, floods: Arc<Floods>) -> Self {
        let frames = Frames::new(Meter::new(limits));
        Self { inner, frames, patience: limits.preface, limit: None, floods, flushed: true }
    }
}

impl<T: AsyncWrite + Unpin> Patient<T> {
    fn wrote(&mut self, bytes: usize) {
        self.flushed = false;
        self.frames.sent(bytes);
    }

    /// Says GOAWAY where there is room for it between frames. Whoever floods us may not read it anyway.
    fn end(&mut self, flood: Flood, cx: &mut Context<'_>) -> io::Error {
        self.floods.count(flood);
        if self.flushed {
            let _ = Pin::new(&mut self.inner).poll_write(cx, &flood.goaway(self.frames.last_stream()));
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, flood)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Patient<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        if polled.is_ready() {
            if let Err(flood) = this.frames.feed(buf.filled().get(before..).unwrap_or_default()) {
                return Poll::Ready(Err(this.end(flood, cx)));
            }
            if !this.frames.owed() {
                this.limit = None;
            }
        } else if this.frames.owed() {
            // One limit for the whole of it: a byte now and then buys no time.
            let limit = this.limit.get_or_insert_with(|| Box::pin(sleep(this.patience)));
            ready!(limit.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not finish in time what it began")));
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = true;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::Patient;
    use crate::{Limits, flood::Floods};
    use std::time::Duration;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, sleep, timeout},
    };

    /// The default.
    const LIMIT: Duration = Duration::from_secs(10);

    fn patient<T>(inner: T) -> Patient<T> {
        Patient::new(inner, &Limits::default(), Floods::new("patient").into())
    }

    /// Preface and an empty SETTINGS.
    const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    /// The head of a HEADERS frame of 100 bytes, and some of them.
    const HALF_A_REQUEST: &[u8] = b"\0\0\x64\x01\x04\0\0\0\x01abc";

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_halfway_is_cut_off() {
        for sent in [&b""[..], &OPENING[..20], &OPENING[..OPENING.len() - 1], &[OPENING, HALF_A_REQUEST].concat()] {
            let (mut peer, ours) = tokio::io::duplex(1024);
            let mut ours = patient(ours);
            peer.write_all(sent).await.expect("room");
            let start = Instant::now();
            let mut bytes = Vec::new();
            let error = timeout(LIMIT * 6, ours.read_to_end(&mut bytes)).await.expect("cut off").expect_err("never whole");
            assert_eq!((error.kind(), start.elapsed().as_secs()), (std::io::ErrorKind::TimedOut, 10), "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_buys_no_time() {
        let (mut peer, ours) = tokio::io::duplex(1024);
        let start = Instant::now();
        let dripping = async {
            for byte in OPENING {
                peer.write_all(&[*byte]).await?;
                sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<std::io::Result<()>>().await
        };
        let mut ours = patient(ours);
        let mut bytes = Vec::new();
        tokio::select! {
            biased;
            read = ours.read_to_end(&mut bytes) => assert!(read.is_err()),
            _ = dripping => {}
        }
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_owes_nothing_may_be_silent() {
        let (mut peer, ours) = tokio::io::duplex(1024);
        let mut ours = patient(ours);
        peer.write_all(OPENING).await.expect("room");
        assert!(timeout(LIMIT * 6, ours.read_to_end(&mut Vec::new())).await.is_err(), "must go on waiting");
    }
}
