//! Repeats attempts that may be repeated (gRFC A6).
//!
//! Three kinds. A **transparent** retry follows an attempt that no server application saw (the stream was never opened,
//! was refused, or came after the server's GOAWAY): any call may be repeated then, at once and free of charge. A
//! **policy** retry follows a status that the method's `retryPolicy` names; the method is declared repeatable, and
//! the retry is paid from the destination's budget and throttle, after a jittered backoff or the server's pushback. A **hedge**
//! is made beside an attempt that has not answered yet (see `hedge`), and paid like a retry.
//!
//! The first response headers commit the call: from then on the caller sees this attempt's answer, whatever it is. Only
//! the answer of a unary call that may be repeated is held back until it is whole (see `held`). An I/O error after HEADERS
//! went out says nothing about what the server did, so it is UNAVAILABLE like any other, and repeated only if the method's
//! policy says so. Each repetition prefers another endpoint.
//!
//! Three layers of three attempts would make 27 calls of one. So a call made for an inbound call that is itself a repetition
//! gets no policy retries, and one that was repeated in vain asks those above not to repeat theirs.

mod again;
mod budget;
#[cfg(test)]
mod budget_tests;
mod hedge;
mod held;

pub(crate) use budget::{Budget, Throttle};
pub(crate) use held::Body;

use again::{Again, Next};
use hedge::Hedged;
use held::Held;

use crate::{
    balance::{Addressed, Attempted},
    call::Call,
    destination::Shared,
    endpoint,
    error::Error,
    message_limit::PREFIX,
    request_body::RequestBody,
};
use bytes::Bytes;
use http::Response;
use pin_project_lite::pin_project;
use sinew_core::Context as CallContext;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::time::{Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

/// Adds retries.
#[derive(Debug, Clone)]
pub(crate) struct RetryLayer {
    destination: Arc<Shared>,
}

/// The layer's service.
#[derive(Debug, Clone)]
pub(crate) struct Retry<S> {
    inner: S,
    destination: Arc<Shared>,
}

impl RetryLayer {
    pub(crate) fn new(destination: Arc<Shared>) -> Self {
        Self { destination }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner, destination: self.destination.clone() }
    }
}

impl<S, B> Service<Call<B>> for Retry<S>
where
    S: Service<Call<RequestBody<B>>, Response = Attempted<Response<endpoint::Body>>, Error = Attempted<Error>, Future: Addressed>
        + Clone,
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|attempted| attempted.what)
    }

    fn call(&mut self, call: Call<B>) -> ResponseFuture<S, B> {
        self.destination.budget.deposit();
        let (call, body) = call.split();
        let body = match RequestBody::read_ahead(body, self.destination.config.retry.buffer_bytes) {
            Ok(body) => body,
            Err(status) => return ResponseFuture { state: State::Failed { error: Some(Error::RequestBody(status)) }, again: None },
        };
        if let Some(error) = too_large(&call, &body) {
            return ResponseFuture { state: State::Failed { error: Some(error) }, again: None };
        }
        let policy = &call.method.policy;
        let again = Again {
            call: call.clone(),
            body: body.handle(),
            inner: self.inner.clone(),
            destination: self.destination.clone(),
            may_repeat: policy.is_repeated() && CallContext::current().attempt == 0,
            attempts: 1,
            transparent: 0,
            gave_up: false,
        };
        if policy.hedging.is_some() && again.may_repeat && matches!(body, RequestBody::Whole(_)) {
            let first = self.inner.call(call.with_body(body));
            return ResponseFuture { state: State::Hedging { hedged: Box::new(Hedged::new(again, first)) }, again: None };
        }
        ResponseFuture { state: State::Attempt { attempt: self.inner.call(call.with_body(body)) }, again: Some(again) }
    }
}

/// A whole request beyond the service config's limit is never sent.
fn too_large<B>(call: &Call<()>, body: &RequestBody<B>) -> Option<Error> {
    let limit = call.method.policy.max_request_bytes?;
    let RequestBody::Whole(message) = body else { return None };
    let bytes = message.len().saturating_sub(PREFIX);
    let method = call.method.policy.path.clone();
    (bytes > limit as usize).then_some(Error::TooLarge { method, what: "request", bytes, limit })
}

// === impl ResponseFuture ===

pin_project! {
    /// Waits for an answer worth returning.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the running attempt and makes no further one.
    pub(crate) struct ResponseFuture<S, B>
    where
        S: Service<Call<RequestBody<B>>>,
    {
        #[pin]
        state: State<S, B>,
        again: Option<Again<S, B>>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, B>
    where
        S: Service<Call<RequestBody<B>>>,
    {
        Attempt { #[pin] attempt: S::Future },
        Hold { held: Option<Box<(Held, Option<u64>)>> },
        Backoff { #[pin] wait: Sleep },
        Hedging { hedged: Box<Hedged<S, B>> },
        Failed { error: Option<Error> },
    }
}

impl<S, B> Future for ResponseFuture<S, B>
where
    S: Service<Call<RequestBody<B>>, Response = Attempted<Response<endpoint::Body>>, Error = Attempted<Error>, Future: Addressed>,
{
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let (answer, by) = match this.state.as_mut().project() {
                Projected::Hedging { hedged } => return hedged.poll(cx),
                Projected::Failed { error } => match error.take() {
                    Some(error) => return Poll::Ready(Err(error)),
                    None => return Poll::Pending,
                },
                Projected::Backoff { wait } => {
                    ready!(wait.poll(cx));
                    match this.again.as_mut().and_then(Again::attempt) {
                        Some(attempt) => this.state.set(State::Attempt { attempt }),
                        // After a backoff, with a body that was repeatable before it: cannot be.
                        None => return Poll::Pending,
                    }
                    continue;
                }
                Projected::Attempt { attempt } => {
                    let (by, answer) = match ready!(attempt.poll(cx)) {
                        Ok(Attempted { by, what }) => (by, Ok(what)),
                        Err(Attempted { by, what }) => (by, Err(what)),
                    };
                    match answer {
                        Ok(response) if this.again.as_ref().is_some_and(|again| again.holds(&response)) => {
                            let mut held = Held::new(response);
                            // Its parts arrive together: mostly there is nothing to wait for.
                            match held.poll(cx) {
                                Poll::Ready(Ok(())) => (Ok(held.into_response()), by),
                                Poll::Ready(Err(error)) => (Err(error), by),
                                Poll::Pending => {
                                    this.state.set(State::Hold { held: Some(Box::new((held, by))) });
                                    return Poll::Pending;
                                }
                            }
                        }
                        answer => (answer.map(|response| response.map(Body::from)), by),
                    }
                }
                Projected::Hold { held } => {
                    let Some(waiting) = held.as_mut() else { return Poll::Pending };
                    let read = ready!(waiting.0.poll(cx));
                    let Some((held, by)) = held.take().map(|held| *held) else { return Poll::Pending };
                    (read.map(|()| held.into_response()), by)
                }
            };
            let Some(again) = this.again.as_mut() else { return Poll::Ready(answer) };
            let next = match again.judge(&answer, by) {
                Next::Return => None,
                Next::AtOnce => again.attempt().map(|attempt| State::Attempt { attempt }),
                Next::After(wait) => Some(State::Backoff { wait: sleep(wait) }),
            };
            match next {
                Some(next) => this.state.set(next),
                None => {
                    again.body.commit();
                    again.over(&answer);
                    *this.again = None;
                    return Poll::Ready(answer);
                }
            }
        }
    }
}
