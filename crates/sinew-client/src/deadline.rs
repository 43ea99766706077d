//! Gives every call an end.
//!
//! A call without a deadline waits as long as the slowest thing it depends on, and so does its caller. The deadline is
//! the earliest of what the inbound call has left, what the caller asked for (`grpc-timeout`) and what the method's
//! policy allows; it is told to the server with each attempt, and enforced here whatever the server does.
//!
//! Streams and unknown methods have no default: how long they last is not ours to say. Only their response headers
//! are waited for with a limit, so that a server which accepts calls and then forgets them is noticed.

use crate::{
    call::{Call, Deadline as End},
    config::Config,
    error::Error,
    headers,
    method::Method,
};
use bytes::Bytes;
use http::Response;
use http_body::Frame;
use pin_project_lite::pin_project;
use sinew_core::{Context as CallContext, MethodKind};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

/// Adds deadlines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadlineLayer {
    header_timeout: Option<Duration>,
}

/// The layer's service.
#[derive(Debug, Clone)]
pub(crate) struct Deadline<S> {
    inner: S,
    header_timeout: Option<Duration>,
}

impl DeadlineLayer {
    pub(crate) fn new(config: &Config) -> Self {
        Self { header_timeout: config.header_timeout }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner, header_timeout: self.header_timeout }
    }
}

impl<S, B, I> Service<Call<B>> for Deadline<S>
where
    S: Service<Call<B>, Response = Response<I>, Error = Error>,
{
    type Response = Response<Body<I>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call<B>) -> ResponseFuture<S::Future> {
        let method = call.method.clone();
        call.deadline = end(&mut call);
        let limit = match call.deadline {
            Some(end) if end.at <= call.now => return ResponseFuture::Expired { error: Some(late(&method, end)) },
            Some(end) => Limit::Deadline { end },
            None => match self.header_timeout {
                Some(limit) if method.policy.kind != Some(MethodKind::ClientStreaming) => Limit::Headers { limit },
                _ => Limit::None,
            },
        };
        let alarm = limit.at(call.now).map(sleep_until);
        ResponseFuture::Running { inner: self.inner.call(call), alarm, limit, method }
    }
}

/// The earliest of all ends; takes the caller's `grpc-timeout` off the headers, since each attempt writes its own.
fn end<B>(call: &mut Call<B>) -> Option<End> {
    let asked = headers::timeout(&call.headers);
    let timeout = match (asked, call.method.policy.timeout) {
        (Some(asked), Some(policy)) => Some(asked.min(policy)),
        (asked, policy) => asked.or(policy),
    };
    let inbound = CallContext::current().deadline;
    let own = timeout.and_then(|timeout| call.now.checked_add(timeout).map(|at| End { at, timeout }));
    match (own, inbound) {
        (Some(own), Some(inbound)) if own.at <= inbound => Some(own),
        (_, Some(at)) => Some(End { at, timeout: at.saturating_duration_since(call.now) }),
        (own, None) => own,
    }
}

fn late(method: &Method, end: End) -> Error {
    Error::Deadline { method: method.policy.path.clone(), timeout: end.timeout }
}

// === impl ResponseFuture ===

#[derive(Debug, Clone, Copy)]
enum Limit {
    Deadline { end: End },
    Headers { limit: Duration },
    None,
}

impl Limit {
    fn at(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Deadline { end } => Some(end.at),
            Self::Headers { limit } => now.checked_add(limit),
            Self::None => None,
        }
    }
}

pin_project! {
    /// Waits for response headers until the limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the call.
    #[project = Projected]
    pub(crate) enum ResponseFuture<F> {
        Running {
            #[pin]
            inner: F,
            #[pin]
            alarm: Option<Sleep>,
            limit: Limit,
            method: Arc<Method>,
        },
        Expired { error: Option<Error> },
    }
}

impl<F, I> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<I>, Error>>,
{
    type Output = Result<Response<Body<I>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Running { inner, alarm, limit, method } => {
                if let Poll::Ready(answer) = inner.poll(cx) {
                    let end = if let Limit::Deadline { end } = limit { Some(*end) } else { None };
                    return Poll::Ready(answer.map(|r| r.map(|inner| Body::new(inner, end, method))));
                }
                let Some(alarm) = alarm.as_pin_mut() else { return Poll::Pending };
                ready!(alarm.poll(cx));
                Poll::Ready(Err(match *limit {
                    Limit::Headers { limit } => Error::NoHeaders { method: method.policy.path.clone(), limit },
                    Limit::Deadline { end } => late(method, end),
                    Limit::None => return Poll::Pending,
                }))
            }
            Projected::Expired { error } => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
        }
    }
}

// === impl Body ===

/// A response body that ends with an error at the deadline.
#[derive(Debug)]
pub(crate) struct Body<I> {
    inner: Option<I>,
    limit: Option<(End, Arc<Method>)>,
    /// Set up at the first wait: the usual answer arrives whole and needs none.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<I> Body<I> {
    fn new(inner: I, end: Option<End>, method: &Arc<Method>) -> Self {
        Self { inner: Some(inner), limit: end.map(|end| (end, method.clone())), alarm: None }
    }
}

impl<I> http_body::Body for Body<I>
where
    I: http_body::Body<Data = Bytes, Error = Error> + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let Some((end, method)) = &this.limit else { return Poll::Pending };
        ready!(this.alarm.get_or_insert_with(|| Box::pin(sleep_until(end.at))).as_mut().poll(cx));
        // Dropping what is inside resets the stream and counts the call as late.
        this.inner = None;
        Poll::Ready(Some(Err(late(method, *end))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
