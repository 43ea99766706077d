//! One endpoint as calls see it: its breaker, how many calls it has, and what became of them.

use crate::{
    balance::Picked,
    breaker::{Breakers, Permit},
    call::Call,
    connection::{self, Outgoing, Streaming},
    ending::{Witness, Witnessed},
    error::{self, Error},
    headers::{self, Pushback},
    latency::Latency,
    method::Method,
    outlier::Tally,
    request_body::RequestBody,
};
use bytes::Bytes;
use http::{Response, uri::Authority};
use http_body::Body as _;
use sinew_core::{
    MethodKind,
    classify::{Code, Verdict},
};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// One endpoint: lives as long as its registration keeps id and address, over any number of connections.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Unique within the client.
    pub(crate) number: u64,
    /// `order-0 (10.0.0.1:50051)`, for errors and logs.
    pub(crate) name: Arc<str>,
    pub(crate) breakers: Breakers,
    pub(crate) latency: Latency,
    pub(crate) tally: Tally,
    pub(crate) in_flight: AtomicUsize,
    /// Those of all the destination's endpoints.
    pub(crate) all_in_flight: Arc<AtomicUsize>,
    /// The destination's count of breakers opened.
    pub(crate) breakers_opened: Arc<AtomicU64>,
    /// A call found every stream taken: another connection is wanted.
    pub(crate) crowded: AtomicBool,
    /// When it was made, and how many milliseconds after that it was first connected, the latest time.
    pub(crate) made: Instant,
    pub(crate) connected_ms: AtomicU64,
}

/// A response body that reports how the attempt ended.
pub(crate) type Body = Witnessed<connection::Body, Attempt>;

/// One attempt, from permit to end: gives everything back when dropped.
#[derive(Debug)]
pub(crate) struct Attempt {
    endpoint: Arc<Endpoint>,
    method: Arc<Method>,
    permit: Permit,
    started: Instant,
    deadline: Option<Instant>,
    /// Its headers have not come yet, and it tells of the endpoint's latency when they do: not those that are answered at
    /// their end.
    waiting: bool,
    over: bool,
}

/// Waits for response headers.
///
/// # Cancel safety
///
/// Dropping it cancels the attempt: the stream is reset and a probe's permit returned.
#[derive(Debug)]
pub(crate) struct ResponseFuture {
    streaming: Result<Streaming, Option<Error>>,
    attempt: Option<Attempt>,
}

impl Picked {
    /// Sends the call to the endpoint that was picked for it.
    pub(crate) fn send<B>(self, call: Call<RequestBody<B>>, authority: Authority) -> ResponseFuture
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { endpoint, permit, slot } = self;
        let method = call.method.clone();
        endpoint.in_flight.fetch_add(1, Relaxed);
        endpoint.all_in_flight.fetch_add(1, Relaxed);
        let waiting = !matches!(method.policy.kind, Some(MethodKind::ClientStreaming | MethodKind::Bidirectional));
        if waiting {
            endpoint.latency.began(call.now);
        }
        method.attempts.in_flight.fetch_add(1, Relaxed);
        let name = endpoint.name.clone();
        let (started, deadline) = (call.now, call.deadline.map(|d| d.at));
        let attempt = Attempt { endpoint, method, permit, started, deadline, waiting, over: false };
        let streaming = slot.send(Outgoing { call, authority, endpoint: name }).map_err(Some);
        ResponseFuture { streaming, attempt: Some(attempt) }
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// It is connected, and was not before.
    pub(crate) fn connected(&self, now: Instant) {
        self.connected_ms.store(now.saturating_duration_since(self.made).as_millis() as u64, Relaxed);
    }

    /// Since when it is.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made + Duration::from_millis(self.connected_ms.load(Relaxed)))
    }
}

// === impl ResponseFuture ===

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let answer = match &mut this.streaming {
            Ok(streaming) => ready!(Pin::new(streaming).poll(cx)),
            Err(error) => match error.take() {
                Some(error) => Err(error),
                None => return Poll::Pending,
            },
        };
        // Polled again after its end, which no caller does, a future may as well wait.
        let Some(mut attempt) = this.attempt.take() else { return Poll::Pending };
        Poll::Ready(match answer {
            Ok(response) => {
                let now = Instant::now();
                if std::mem::replace(&mut attempt.waiting, false) {
                    attempt.endpoint.latency.answered(attempt.started, now);
                }
                // Only an answer that is all headers may push back: a refusal, or another error.
                if response.body().is_end_stream()
                    && let Some(Pushback::After(wait)) = headers::pushback(response.headers())
                {
                    attempt.endpoint.latency.pushed_back(wait, now);
                }
                Ok(Witnessed::wrap(response, attempt))
            }
            Err(error) => {
                attempt.ended(error.code(), Some(&error));
                Err(error)
            }
        })
    }
}

// === impl Attempt ===

impl Attempt {
    fn settle(&mut self, code: Code, verdict: Verdict) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let now = Instant::now();
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
        self.endpoint.all_in_flight.fetch_sub(1, Relaxed);
        if std::mem::replace(&mut self.waiting, false) {
            self.endpoint.latency.given_up(self.started, now);
        }
        self.endpoint.tally.count(verdict);
        match verdict {
            Verdict::Success => self.endpoint.latency.succeeded(),
            Verdict::Failure => self.endpoint.latency.failed(self.started, now),
            Verdict::Neutral => {}
        }
        let own = self.method.breaker;
        if self.endpoint.breakers.of(own).settle(self.permit, verdict, || now) {
            self.endpoint.breakers_opened.fetch_add(1, Relaxed);
            let method = own.map(|_| &*self.method.policy.path);
            tracing::info!(endpoint = %self.endpoint.name, method, %code, "breaker opened");
        }
        self.method.attempts.in_flight.fetch_sub(1, Relaxed);
        self.method.attempts.record(code, now.saturating_duration_since(self.started));
    }
}

impl Witness for Attempt {
    fn ended(&mut self, code: Code, error: Option<&Error>) {
        // Faults of the connection are its backoff's business; the breaker judges what the server answered.
        let verdict = match error {
            Some(Error::Stream { source, .. }) if !error::by_application(source) => Verdict::Neutral,
            Some(Error::RequestBody(_)) => Verdict::Neutral,
            _ => Verdict::from(code),
        };
        self.settle(code, verdict);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.over {
            // Whoever drops a call after its deadline drops it because of its deadline.
            let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let code = if late { Code::DeadlineExceeded } else { Code::Cancelled };
            self.settle(code, Verdict::from(code));
        }
    }
}

#[cfg(test)]
impl Endpoint {
    /// One of this name, of which nothing is known.
    pub(crate) fn of_test(name: &Arc<str>) -> Self {
        let now = Instant::now();
        Self {
            number: 0,
            name: name.clone(),
            breakers: crate::breaker::Plan::of_test().breakers(now),
            latency: Latency::new(crate::latency::DECAY, now),
            tally: Tally::default(),
            in_flight: Default::default(),
            all_in_flight: Default::default(),
            breakers_opened: Default::default(),
            crowded: Default::default(),
            made: now,
            connected_ms: Default::default(),
        }
    }
}
