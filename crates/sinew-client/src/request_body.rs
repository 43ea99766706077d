//! Request bodies, made repeatable.
//!
//! A unary request is one message that is at hand when the call is made: looking one frame ahead finds that out, and
//! then the request is HEADERS and one final DATA, repeated by cloning a reference-counted buffer. Anything else is a
//! stream: its frames are kept, up to a limit, for as long as the call may be repeated.

use bytes::Bytes;
use http_body::Body;
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};
use tonic::Status;

/// A request body, read as far as it is at hand.
#[derive(Debug)]
pub(crate) enum RequestBody<B> {
    /// All of it.
    Whole(Bytes),
    /// Perhaps its beginning.
    Stream(Replay<B>),
}

/// One attempt's view of a streamed request body. Later views start at the beginning; earlier ones end.
pub(crate) struct Replay<B> {
    shared: Arc<Mutex<Shared<B>>>,
    view: u32,
    next: usize,
}

struct Shared<B> {
    body: B,
    /// The latest view: an aborted attempt may be polled once more and must not take frames from its successor.
    view: u32,
    /// What was sent so far; `None` once it is too much, or the call can no longer be repeated.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    limit: usize,
    ended: bool,
}

impl<B> RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Reads what is at hand. `limit` bounds what a stream keeps for repetition, in bytes.
    pub(crate) fn read_ahead(mut body: B, limit: usize) -> Result<Self, Status> {
        // Nobody waits here: a body that is not ready is a stream, and is polled again by its pump.
        let mut cx = Context::from_waker(Waker::noop());
        let mut kept = Vec::new();
        loop {
            match poll_data(&mut body, &mut cx) {
                Poll::Ready(None) if kept.len() <= 1 => return Ok(Self::Whole(kept.pop().unwrap_or_default())),
                Poll::Ready(Some(Err(status))) => return Err(status),
                Poll::Ready(Some(Ok(data))) if kept.is_empty() && body.is_end_stream() => return Ok(Self::Whole(data)),
                Poll::Ready(Some(Ok(data))) => {
                    kept.push(data);
                    if kept.len() == 1 {
                        continue;
                    }
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            let kept_bytes = kept.iter().map(Bytes::len).sum();
            let shared = Shared { body, view: 0, kept: Some(kept), kept_bytes, limit, ended: false };
            return Ok(Self::Stream(Replay { shared: Arc::new(Mutex::new(shared)), view: 0, next: 0 }));
        }
    }
}

impl<B> RequestBody<B> {
    /// Another handle on the same view, to ask for further ones.
    pub(crate) fn handle(&self) -> Self {
        match self {
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Stream(Replay { shared, view, next }) => {
                Self::Stream(Replay { shared: shared.clone(), view: *view, next: *next })
            }
        }
    }

    /// Whether all of it that was sent is still there.
    pub(crate) fn repeatable(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Stream(replay) => replay.lock().kept.is_some(),
        }
    }

    /// The body for a further attempt, if all of it that was sent is still there; earlier views end.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Stream(replay) => replay.again().map(Self::Stream),
        }
    }

    /// The call can no longer be repeated: what was kept for that is dropped once it is sent.
    pub(crate) fn commit(&self) {
        if let Self::Stream(replay) = self {
            replay.lock().limit = 0;
        }
    }
}

// === impl Replay ===

impl<B> Replay<B> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn again(&self) -> Option<Self> {
        let mut shared = self.lock();
        shared.kept.as_ref()?;
        shared.view += 1;
        Some(Self { shared: self.shared.clone(), view: shared.view, next: 0 })
    }
}

impl<B> Replay<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The next frame of data; `None` at the end, or when a later attempt has taken over.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let mut guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &mut *guard;
        if shared.view != self.view {
            return Poll::Ready(None);
        }
        if let Some(kept) = &mut shared.kept {
            if let Some(data) = kept.get(self.next) {
                self.next += 1;
                return Poll::Ready(Some(Ok(data.clone())));
            }
            if shared.kept_bytes > shared.limit {
                shared.kept = None;
            }
        }
        if shared.ended {
            return Poll::Ready(None);
        }
        let polled = poll_data(&mut shared.body, cx);
        match &polled {
            Poll::Ready(Some(Ok(data))) => {
                if let Some(kept) = &mut shared.kept {
                    shared.kept_bytes += data.len();
                    kept.push(data.clone());
                    self.next += 1;
                }
            }
            Poll::Ready(_) => shared.ended = true,
            Poll::Pending => {}
        }
        polled
    }
}

impl<B> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("view", &self.view).field("next", &self.next).finish_non_exhaustive()
    }
}

/// The next frame of data. gRPC requests have no trailers; empty frames say nothing.
fn poll_data<B>(body: &mut B, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        match std::task::ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(data))),
                Err(_) => {}
            },
        }
    }
}

#[cfg(test)]
#[path = "request_body_tests.rs"]
mod tests;
