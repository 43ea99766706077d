//! The answer of a unary call, held back until it is whole.
//!
//! gRFC A6 commits a call at its response headers. A server that dies between its headers and its message would then
//! fail a call that may be repeated and of which the caller has seen nothing. A unary answer is small and its parts
//! arrive together, so it is read to its end before it is handed over; a large one is handed over as it comes.

use crate::{endpoint, error::Error};
use bytes::Bytes;
use http::{HeaderMap, Response, response::Parts};
use http_body::{Body as _, Frame};
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Bytes held at most, per call. Answers of a page of a list fit; beyond it the call is committed as A6 has it.
const MOST: usize = 64 << 10;

/// An answer being read.
#[derive(Debug)]
pub(super) struct Held {
    parts: Parts,
    body: Body,
    bytes: usize,
}

/// A response body of which the beginning may have been read already.
#[derive(Debug)]
pub(crate) struct Body {
    /// The usual answer is one piece of data, which needs no list.
    first: Option<Bytes>,
    more: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    rest: Option<endpoint::Body>,
}

impl Held {
    pub(super) fn new(response: Response<endpoint::Body>) -> Self {
        let (parts, body) = response.into_parts();
        Self { parts, body: Body::from(body), bytes: 0 }
    }

    /// The answer, once it is whole or too large to hold.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while let Some(rest) = self.body.rest.as_mut().filter(|_| self.bytes <= MOST) {
            match ready!(Pin::new(rest).poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => {
                    self.bytes += data.len();
                    self.body.keep(data);
                }
                Some(Err(frame)) => self.body.trailers = frame.into_trailers().ok(),
                None => self.body.rest = None,
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn into_response(self) -> Response<Body> {
        Response::from_parts(self.parts, self.body)
    }
}

impl Body {
    fn keep(&mut self, data: Bytes) {
        match self.first {
            None if self.more.is_empty() => self.first = Some(data),
            _ => self.more.push_back(data),
        }
    }
}

impl From<endpoint::Body> for Body {
    fn from(body: endpoint::Body) -> Self {
        Self { first: None, more: VecDeque::new(), trailers: None, rest: Some(body) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(data) = self.first.take().or_else(|| self.more.pop_front()) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        self.rest.as_mut().map_or(Poll::Ready(None), |rest| Pin::new(rest).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none()
            && self.more.is_empty()
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }
}
