//! The sending half of a streamed request.
//!
//! It runs in a task of its own, owned by the call: a bidirectional caller may send and receive from different places
//! and in any order, so neither half may wait for the other to be polled. Unary calls never come here.

use crate::request_body::Replay;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use sinew_core::{Context as CallContext, context};
use std::{
    future::poll_fn,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

/// Ends the sending half when dropped.
#[derive(Debug)]
pub(crate) struct Pump {
    _task: AbortOnDropHandle<()>,
    failure: Arc<OnceLock<Status>>,
}

impl Pump {
    pub(crate) fn start<B>(stream: SendStream<Bytes>, body: Replay<B>) -> Self
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let failure = Arc::new(OnceLock::new());
        let sending = Sending { stream, body };
        // The caller's stream may make calls of its own: they belong to the same inbound call.
        let task = context::scope(CallContext::current(), sending.run(failure.clone()));
        Self { _task: AbortOnDropHandle::new(tokio::spawn(task)), failure }
    }

    /// Why the caller's body failed, if it did: the reset it caused says less.
    pub(crate) fn failure(&self) -> Option<Status> {
        self.failure.get().cloned()
    }
}

struct Sending<B> {
    stream: SendStream<Bytes>,
    body: Replay<B>,
}

/// The peer wants no more of the body.
struct Reset;

impl<B> Sending<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn run(mut self, failure: Arc<OnceLock<Status>>) {
        let mut next = poll_fn(|cx| self.poll_next(cx)).await;
        loop {
            match next {
                Err(Reset) => return,
                Ok(None) => {
                    // Fails only if the stream is over already.
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return;
                }
                Ok(Some(Err(status))) => {
                    let _ = failure.set(status);
                    self.stream.send_reset(Reason::CANCEL);
                    return;
                }
                Ok(Some(Ok(data))) => {
                    // One frame of look-ahead: the last one carries END_STREAM itself.
                    let following = poll_fn(|cx| Poll::Ready(self.poll_next(cx))).await;
                    let last = matches!(following, Poll::Ready(Ok(None)));
                    if self.send(data, last).await.is_err() || last {
                        return;
                    }
                    next = match following {
                        Poll::Ready(next) => next,
                        Poll::Pending => poll_fn(|cx| self.poll_next(cx)).await,
                    };
                }
            }
        }
    }

    /// The next frame, unless the peer resets the stream first.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Result<Bytes, Status>>, Reset>> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Reset));
        }
        self.body.poll_data(cx).map(Ok)
    }

    /// Sends one frame as the windows allow, so that h2 buffers no more than they do.
    async fn send(&mut self, mut data: Bytes, last: bool) -> Result<(), Reset> {
        while !data.is_empty() {
            self.stream.reserve_capacity(data.len());
            let granted = poll_fn(|cx| match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(granted)) => Poll::Ready(Ok(granted)),
                Some(Err(_)) | None => Poll::Ready(Err(Reset)),
            })
            .await?;
            let chunk = data.split_to(granted.min(data.len()));
            if chunk.is_empty() {
                continue;
            }
            let end = last && data.is_empty();
            self.stream.send_data(chunk, end).map_err(|_| Reset)?;
        }
        Ok(())
    }
}
