//! The one place through which a connection's bytes pass.
//!
//! hyper waits for an HTTP/2 preface without limit, so thousands of silent connections could be held open for nothing.
//! Here the first bytes have a deadline: 24 of the preface and 9 of the header of the SETTINGS frame that must follow.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Length of the client preface and of the frame header after it.
const OPENING: usize = 24 + 9;

/// A byte stream whose peer must open the conversation in time.
pub(crate) struct Opening<T> {
    inner: T,
    /// Bytes still missing, and the time they have; `None` once they are there.
    waiting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<T> Opening<T> {
    pub(crate) fn new(inner: T, limit: Duration) -> Self {
        Self { inner, waiting: Some((OPENING, Box::pin(sleep(limit)))) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Opening<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some((missing, limit)) = &mut this.waiting else {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        };
        if limit.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not open the connection in time")));
        }
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut this.inner).poll_read(cx, buf));
        *missing = missing.saturating_sub(buf.filled().len() - before);
        if *missing == 0 {
            this.waiting = None;
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Opening<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::Opening;
    use std::time::Duration;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_cut_off() {
        let (_peer, ours) = tokio::io::duplex(64);
        let start = Instant::now();
        let error = Opening::new(ours, Duration::from_secs(10)).read_u8().await.expect_err("nothing was sent");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_preface_is_not_enough_and_a_whole_one_ends_the_watch() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let mut ours = Opening::new(ours, Duration::from_secs(10));
        peer.write_all(&[1; 20]).await.expect("room");
        ours.read_exact(&mut [0; 20]).await.expect("sent");
        assert!(ours.read_u8().await.is_err());

        let (mut peer, ours) = tokio::io::duplex(64);
        let mut ours = Opening::new(ours, Duration::from_secs(10));
        peer.write_all(&[1; 33]).await.expect("room");
        ours.read_exact(&mut [0; 33]).await.expect("sent");
        assert!(tokio::time::timeout(Duration::from_secs(60), ours.read_u8()).await.is_err(), "must go on waiting");
    }
}
