//! Faults put in on purpose, below retries and above balancing: each attempt may be delayed or aborted, as if its server had
//! done so, and what holds for a server's fault holds for these.
//!
//! Off unless [`Config::faults`](crate::Config) says otherwise. No endpoint is blamed: breakers and latencies do not see an
//! aborted attempt, and a delayed one picks its endpoint after the delay. (gRFC A33; Envoy's fault filter sits above retries.)

use crate::{
    balance::{Addressed, Attempted},
    call::Call,
    destination::Shared,
    error::Error,
    headers,
};
use http::{HeaderMap, HeaderName};
use pin_project_lite::pin_project;
use sinew_core::{
    classify::Code,
    fault_injection::{Abort, Delay, Fault, Percent},
};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

/// Adds faults.
#[derive(Debug, Clone)]
pub(crate) struct FaultLayer {
    destination: Arc<Shared>,
}

/// The layer's service.
#[derive(Debug, Clone)]
pub(crate) struct Faults<S> {
    inner: S,
    destination: Arc<Shared>,
}

impl FaultLayer {
    pub(crate) fn new(destination: Arc<Shared>) -> Self {
        Self { destination }
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = Faults<S>;

    fn layer(&self, inner: S) -> Faults<S> {
        Faults { inner, destination: self.destination.clone() }
    }
}

impl<S, B> Service<Call<B>> for Faults<S>
where
    S: Service<Call<B>, Error = Attempted<Error>> + Clone,
{
    type Response = S::Response;
    type Error = Attempted<Error>;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call<B>) -> ResponseFuture<S, B> {
        let Some(faults) = &self.destination.config.faults else {
            return ResponseFuture::Passing { inner: self.inner.call(call) };
        };
        let asked = if faults.by_header { asked(&call.headers) } else { Ok(None) };
        let drawn = asked.map(|asked| self.draw(asked.or(call.method.fault).unwrap_or_default()));
        let (abort, delay) = match drawn {
            Ok((None, None)) => return ResponseFuture::Passing { inner: self.inner.call(call) },
            Ok((abort, delay)) => (abort.map(|code| Error::Injected { code, why: "asked for".into() }), delay),
            Err(why) => (Some(Error::Injected { code: Code::InvalidArgument, why }), None),
        };
        self.destination.series.faults.fetch_add(1, Relaxed);
        let then = match abort {
            Some(error) => Then::Abort(error),
            None => Then::Call(self.inner.clone(), call),
        };
        ResponseFuture::Faulty { alarm: Box::pin(sleep(delay.unwrap_or_default())), then: Some(Box::new(then)) }
    }
}

impl<S> Faults<S> {
    /// Which of the faults this attempt has.
    fn draw(&self, Fault { abort, delay }: Fault) -> (Option<Code>, Option<Duration>) {
        let hit = |percent: Percent| percent.hits((self.destination.random() >> 32) as u32);
        let abort = abort.filter(|abort| hit(abort.percent)).map(|abort| abort.code);
        (abort, delay.filter(|delay| hit(delay.percent)).map(|delay| delay.fixed))
    }
}

/// What the call's own headers ask for.
fn asked(all: &HeaderMap) -> Result<Option<Fault>, String> {
    let number = |name: &HeaderName| {
        let Some(value) = all.get(name) else { return Ok(None) };
        let number = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
        number.map(Some).ok_or_else(|| format!("{name}: {value:?} is no number"))
    };
    let percent = |name: &HeaderName| match number(name)? {
        None => Ok(Percent::default()),
        Some(percent) => Percent::new(percent.into()).ok_or_else(|| format!("{name}: {percent} is no percentage")),
    };
    let abort = match number(&headers::FAULT_ABORT)? {
        None => None,
        Some(code @ 1..=16) => {
            Some(Abort { code: Code::from_number(code as i32), percent: percent(&headers::FAULT_ABORT_PERCENT)? })
        }
        Some(code) => return Err(format!("{}: {code} is no status code to fail with", headers::FAULT_ABORT)),
    };
    let delay = match number(&headers::FAULT_DELAY)? {
        None => None,
        Some(ms) => Some(Delay { fixed: Duration::from_millis(ms.into()), percent: percent(&headers::FAULT_DELAY_PERCENT)? }),
    };
    Ok((abort.is_some() || delay.is_some()).then_some(Fault { abort, delay }))
}

// === impl ResponseFuture ===

/// What follows a delay.
#[derive(Debug)]
pub(crate) enum Then<S, B> {
    Abort(Error),
    Call(S, Call<B>),
}

pin_project! {
    /// Waits for the delay, if there is one, and for the attempt, if it is not aborted.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the attempt.
    #[project = Projected]
    pub(crate) enum ResponseFuture<S, B>
    where
        S: Service<Call<B>>,
    {
        Passing { #[pin] inner: S::Future },
        // In boxes, or every call would carry the room for it.
        Faulty { alarm: Pin<Box<Sleep>>, then: Option<Box<Then<S, B>>> },
    }
}

impl<S, B> Future for ResponseFuture<S, B>
where
    S: Service<Call<B>, Error = Attempted<Error>>,
{
    type Output = Result<S::Response, Attempted<Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let inner = match self.as_mut().project() {
                Projected::Passing { inner } => return inner.poll(cx),
                Projected::Faulty { alarm, then } => {
                    ready!(alarm.as_mut().poll(cx));
                    match then.take().map(|then| *then) {
                        Some(Then::Call(mut inner, mut call)) => {
                            call.now = tokio::time::Instant::now();
                            inner.call(call)
                        }
                        Some(Then::Abort(error)) => return Poll::Ready(Err(Attempted { by: None, what: error })),
                        None => return Poll::Pending,
                    }
                }
            };
            self.set(Self::Passing { inner });
        }
    }
}

impl<S, B> Addressed for ResponseFuture<S, B>
where
    S: Service<Call<B>, Future: Addressed>,
{
    fn endpoint(&self) -> Option<u64> {
        match self {
            Self::Passing { inner } => inner.endpoint(),
            Self::Faulty { .. } => None,
        }
    }

    /// One that is delayed is as good as one at a slow server.
    fn waits(&self) -> bool {
        matches!(self, Self::Passing { inner } if inner.waits())
    }
}
