//! Repeats attempts that may be repeated (gRFC A6).
//!
//! Two kinds. A **transparent** retry follows an attempt that no server application saw (the stream was never opened,
//! was refused, or came after the server's GOAWAY): any call may be repeated then, at once and free of charge. A
//! **policy** retry follows a status that the method's `retryPolicy` names; the method is declared repeatable, and
//! the retry is paid from the destination's budget and throttle, after a jittered backoff or the server's pushback.
//!
//! The first response headers commit the call: from then on the caller sees this attempt's answer, whatever it is. Only
//! the answer of a unary call that may be repeated is held back until it is whole (see `held`). An I/O error after HEADERS went out says nothing about what the server did, so it is UNAVAILABLE like any other, and
//! repeated only if the method's policy says so. Each repetition prefers another endpoint. A call made for an inbound
//! call that is itself a repetition gets no policy retries: three layers of three attempts would make 27 calls of one.

mod budget;
#[cfg(test)]
mod budget_tests;
mod held;

pub(crate) use budget::{Budget, Throttle};
pub(crate) use held::Body;

use held::Held;

use crate::{
    balance::Attempted, call::Call, destination::Shared, endpoint, error::Error, headers, message_limit::PREFIX,
    request_body::RequestBody,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use pin_project_lite::pin_project;
use sinew_core::{Context as CallContext, MethodKind, classify::Code, service_config::RetryPolicy};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
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
    S: Service<Call<RequestBody<B>>, Response = Attempted<Response<endpoint::Body>>, Error = Attempted<Error>> + Clone,
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
        let again = Again {
            call: call.clone(),
            body: body.handle(),
            inner: self.inner.clone(),
            destination: self.destination.clone(),
            may_retry: call.method.policy.retry.is_some() && CallContext::current().attempt == 0,
            attempts: 1,
            transparent: 0,
        };
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
        state: State<S::Future>,
        again: Option<Again<S, B>>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F> {
        Attempt { #[pin] attempt: F },
        Hold { held: Option<Box<(Held, Option<u64>)>> },
        Backoff { #[pin] wait: Sleep },
        Failed { error: Option<Error> },
    }
}

/// What a further attempt needs; gone when there can be none.
struct Again<S, B> {
    call: Call<()>,
    body: RequestBody<B>,
    inner: S,
    destination: Arc<Shared>,
    /// The method's policy allows retries, and the inbound call was no repetition itself.
    may_retry: bool,
    /// Attempts begun that a server may have seen.
    attempts: u32,
    /// Attempts that none saw.
    transparent: u32,
}

/// What to do about an attempt's end.
enum Next {
    Return,
    AtOnce,
    After(Duration),
}

impl<S, B> Future for ResponseFuture<S, B>
where
    S: Service<Call<RequestBody<B>>, Response = Attempted<Response<endpoint::Body>>, Error = Attempted<Error>>,
{
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let (answer, by) = match this.state.as_mut().project() {
                Projected::Failed { error } => match error.take() {
                    Some(error) => return Poll::Ready(Err(error)),
                    None => return Poll::Pending,
                },
                Projected::Backoff { wait } => {
                    ready!(wait.poll(cx));
                    match this.again.as_mut().and_then(Again::attempt) {
                        Some(next) => this.state.set(next),
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
                Next::AtOnce => again.attempt(),
                Next::After(wait) => Some(State::Backoff { wait: sleep(wait) }),
            };
            match next {
                Some(next) => this.state.set(next),
                None => {
                    again.body.commit();
                    *this.again = None;
                    return Poll::Ready(answer);
                }
            }
        }
    }
}

// === impl Again ===

impl<S, B> Again<S, B>
where
    S: Service<Call<RequestBody<B>>>,
{
    /// Whether this answer is read to its end before it is handed over: it could still be asked for again.
    fn holds(&self, response: &Response<endpoint::Body>) -> bool {
        let unary = self.call.method.policy.kind == Some(MethodKind::Unary);
        unary && self.may_retry && self.body.repeatable() && headers::code(response.headers()).is_none()
    }

    /// Begins another attempt, if the request can still be repeated.
    fn attempt(&mut self) -> Option<State<S::Future>> {
        let body = self.body.again()?;
        let mut call = self.call.clone();
        call.now = Instant::now();
        if self.attempts > 1 {
            call.headers.insert(headers::PREVIOUS_ATTEMPTS, HeaderValue::from(self.attempts - 1));
        }
        Some(State::Attempt { attempt: self.inner.call(call.with_body(body)) })
    }

    fn judge(&mut self, answer: &Result<Response<Body>, Error>, by: Option<u64>) -> Next {
        if !self.body.repeatable() {
            return Next::Return;
        }
        let (code, pushback) = match answer {
            Err(error) if error.unseen() && self.transparent < self.destination.config.retry.transparent => {
                self.transparent += 1;
                self.destination.series.transparent_retries.fetch_add(1, Relaxed);
                self.call.avoid = by;
                return Next::AtOnce;
            }
            // Another try would only be one more of too many.
            Err(Error::RequestBody(_) | Error::TooLarge { .. } | Error::Full { .. }) => return Next::Return,
            Err(error) => (error.code(), None),
            Ok(response) => match headers::code(response.headers()) {
                // An answer, whole or to come: committed.
                None | Some(Code::Ok) => {
                    self.succeeded();
                    return Next::Return;
                }
                Some(code) => (code, pushback(response.headers())),
            },
        };
        let policy = self.call.method.clone();
        let Some(policy) = policy.policy.retry.as_ref().filter(|_| self.may_retry) else { return Next::Return };
        self.retry(policy, code, pushback, by)
    }

    /// A policy retry, if everything allows it.
    fn retry(&mut self, policy: &RetryPolicy, code: Code, pushback: Option<Pushback>, by: Option<u64>) -> Next {
        if !policy.retryable_status_codes.contains(&code) {
            self.succeeded();
            return Next::Return;
        }
        // The throttle counts every failure of this kind, retried or not.
        let unthrottled = self.destination.throttle.as_ref().is_none_or(Throttle::failed);
        if self.attempts >= policy.max_attempts {
            return Next::Return;
        }
        let wait = match pushback {
            Some(Pushback::Never) => return Next::Return,
            Some(Pushback::After(wait)) => wait,
            None => budget::wait(policy, self.attempts, self.destination.random_unit()),
        };
        let now = Instant::now();
        if self.call.deadline.is_some_and(|deadline| now + wait >= deadline.at) {
            return Next::Return;
        }
        if !unthrottled || !self.destination.budget.withdraw(now) {
            self.destination.series.retries_refused.fetch_add(1, Relaxed);
            return Next::Return;
        }
        self.destination.series.retries.fetch_add(1, Relaxed);
        self.attempts += 1;
        self.call.avoid = by;
        Next::After(wait)
    }

    fn succeeded(&self) {
        if let Some(throttle) = &self.destination.throttle {
            throttle.succeeded();
        }
    }
}

/// The server's own word on when to come back: `grpc-retry-pushback-ms`.
enum Pushback {
    After(Duration),
    /// Negative or unreadable, which gRFC A6 takes for a no.
    Never,
}

fn pushback(headers: &HeaderMap) -> Option<Pushback> {
    let value = headers.get(&headers::PUSHBACK)?;
    let ms = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    Some(ms.map_or(Pushback::Never, |ms| Pushback::After(Duration::from_millis(ms.into()))))
}
