//! A connection's bytes, read a piece at a time.
//!
//! h2 reads until the socket is empty before it writes anything. With many calls on one connection that puts both ends in
//! step: all answers are read, all callers make their next calls, all of those are written at once, and each end does nothing
//! while the other works. So a read that filled its buffer, after which there is probably more, is followed by a pause of one
//! turn of the scheduler: whoever was waiting for what has been read goes on, and what that leads to is written meanwhile.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that pauses after a read that filled its buffer.
#[derive(Debug)]
pub(super) struct Paced<T> {
    io: T,
    /// The last read filled its buffer.
    full: bool,
}

impl<T> Paced<T> {
    /// Paces the reads of `io`; writes pass through.
    pub(super) fn new(io: T) -> Self {
        Self { io, full: false }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.full) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.full = read.is_ready() && buf.remaining() == 0;
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::{Wake, Waker},
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Reads with a buffer of eight bytes until there is nothing more: how many bytes came each time, and how often it was woken
    /// by then; none for a pause.
    async fn reads(sent: &[u8]) -> Vec<(Option<usize>, usize)> {
        let (mut far, near) = duplex(1_000);
        far.write_all(sent).await.expect("room for all of it");
        let (mut paced, woken) = (Paced::new(near), Arc::new(Woken::default()));
        let waker = Waker::from(woken.clone());
        let mut reads = Vec::new();
        loop {
            let (before, mut room) = (woken.0.load(Relaxed), [0; 8]);
            let mut buf = ReadBuf::new(&mut room);
            let read = Pin::new(&mut paced).poll_read(&mut Context::from_waker(&waker), &mut buf);
            let woken = woken.0.load(Relaxed);
            if read.is_pending() && woken == before {
                return reads;
            }
            reads.push((read.is_ready().then_some(buf.filled().len()), woken));
        }
    }

    #[tokio::test]
    async fn after_a_full_read_there_is_a_pause_that_ends_by_itself() {
        assert_eq!(reads(&[7; 20]).await, [(Some(8), 0), (None, 1), (Some(8), 1), (None, 2), (Some(4), 2)]);
    }

    #[tokio::test]
    async fn after_any_other_read_there_is_none() {
        assert_eq!(reads(&[7; 7]).await, [(Some(7), 0)]);
    }

    #[tokio::test]
    async fn nothing_is_lost() {
        let sent: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut far, near) = duplex(1_000);
        let writer = tokio::spawn({
            let sent = sent.clone();
            async move { far.write_all(&sent).await }
        });
        let mut received = Vec::new();
        Paced::new(near).read_to_end(&mut received).await.expect("a read");
        writer.await.expect("the writer").expect("a write");
        assert!(received == sent);
    }
}
