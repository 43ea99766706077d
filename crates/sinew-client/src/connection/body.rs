//! The response body of one stream.

use super::{Slot, pump::Pump};
use crate::{error::Error, message_limit::MessageLimit, method::Method};
use bytes::Bytes;
use h2::RecvStream;
use http_body::Frame;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Capacity read but not yet given back. A unary answer is smaller and never pays for giving back: h2 does so itself
/// when the stream ends.
const GIVE_BACK: usize = 16 << 10;

/// A response body; dropping it early resets the stream.
#[derive(Debug)]
pub(crate) struct Body {
    received: RecvStream,
    owed: usize,
    data_over: bool,
    pump: Option<Pump>,
    slot: Option<Slot>,
    endpoint: Arc<str>,
    limit: Option<MessageLimit>,
    method: Arc<Method>,
}

impl Body {
    pub(super) fn new(
        received: RecvStream,
        pump: Option<Pump>,
        slot: Option<Slot>,
        endpoint: Arc<str>,
        method: Arc<Method>,
    ) -> Self {
        let limit = method.policy.max_response_bytes.map(MessageLimit::new);
        Self { received, owed: 0, data_over: false, pump, slot, endpoint, limit, method }
    }

    fn give_back(&mut self, read: usize) {
        self.owed += read;
        if self.owed >= GIVE_BACK {
            // Fails only for more than was taken.
            let _ = self.received.flow_control().release_capacity(std::mem::take(&mut self.owed));
        }
    }

    fn failed(&self, source: h2::Error) -> Error {
        match self.pump.as_ref().and_then(Pump::failure) {
            Some(status) => Error::RequestBody(status),
            // Headers were answered: whatever HTTP/2 says, an application has seen the request.
            None => Error::Stream { endpoint: self.endpoint.clone(), unseen: false, source },
        }
    }

    fn too_large(&mut self, data: &[u8]) -> Option<Error> {
        let limit = self.limit.as_mut()?;
        let bytes = limit.follow(data).err()?;
        let (method, limit) = (self.method.policy.path.clone(), limit.most());
        Some(Error::TooLarge { method, what: "response", bytes, limit })
    }

    /// The stream is over: its place is free, and so is the sending half.
    fn end(&mut self) {
        self.slot = None;
        self.pump = None;
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if !this.data_over {
            match ready!(this.received.poll_data(cx)) {
                Some(Ok(data)) => {
                    this.give_back(data.len());
                    if let Some(error) = this.too_large(&data) {
                        this.data_over = true;
                        this.end();
                        return Poll::Ready(Some(Err(error)));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The server needs no more of the request and has answered in full (RFC 9113, 8.1).
                Some(Err(error)) if error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(this.failed(error)))),
                None => {}
            }
            this.data_over = true;
        }
        let last = match ready!(this.received.poll_trailers(cx)) {
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(None) => None,
            Err(error) => Some(Err(this.failed(error))),
        };
        this.end();
        Poll::Ready(last)
    }

    fn is_end_stream(&self) -> bool {
        self.received.is_end_stream()
    }
}
