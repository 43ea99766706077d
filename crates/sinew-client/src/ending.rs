//! How an answer ends, and somebody who wants to know.
//!
//! A gRPC call is over when its status is: in the headers of an answer without messages, else in the trailers. Both
//! the endpoint (breaker, attempt) and observe (call, span) wait for that moment, each with its own [`Witness`].

use crate::{error::Error, headers};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use sinew_core::classify::Code;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Told once how the answer ended. Dropped untold, the caller gave up: that is for its `Drop` to notice.
pub(crate) trait Witness {
    /// The answer ended with this code; with the error, if it ended without a status of the server's.
    fn ended(&mut self, code: Code, error: Option<&Error>);
}

/// A response body with a witness of its end.
#[derive(Debug)]
pub(crate) struct Witnessed<I, W> {
    inner: I,
    witness: W,
    over: bool,
}

impl<I, W: Witness> Witnessed<I, W> {
    /// Wraps the body of an answer, whose headers may already hold its end.
    pub(crate) fn wrap(response: Response<I>, mut witness: W) -> Response<Self> {
        let code = match headers::code(response.headers()) {
            None if response.status() != StatusCode::OK => Some(headers::code_of_http(response.status())),
            code => code,
        };
        if let Some(code) = code {
            witness.ended(code, None);
        }
        response.map(|inner| Self { inner, witness, over: code.is_some() })
    }
}

impl<I, W> http_body::Body for Witnessed<I, W>
where
    I: http_body::Body<Data = Bytes, Error = Error> + Unpin,
    W: Witness + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if !this.over {
            let end = match &frame {
                Some(Ok(frame)) => frame.trailers_ref().map(|t| (headers::code(t).unwrap_or(Code::Unknown), None)),
                Some(Err(error)) => Some((error.code(), Some(error))),
                // No status at all: the server broke the protocol.
                None => Some((Code::Unknown, None)),
            };
            if let Some((code, error)) = end {
                this.over = true;
                this.witness.ended(code, error);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
