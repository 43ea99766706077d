//! Asks another endpoint as well, before the first has answered (gRFC A6; *The Tail at Scale*, Dean and Barroso 2013).
//!
//! An attempt that takes longer than most, for whatever reason, is overtaken by one made elsewhere: the first answer that is
//! not one of the policy's `nonFatalStatusCodes` is the call's, and the other attempts are cancelled. A non-fatal one makes
//! the next attempt begin at once, or when the server's pushback says; a negative pushback ends the making of attempts.
//!
//! Every attempt but the first is paid from the same budget as retries and obeys the same throttle, so a destination that is
//! slow as a whole gets a tenth more load and not twice as much. While an attempt still waits for an endpoint no other is made:
//! it would only wait beside it. Requests that are not at hand as a whole (streams) are not hedged.

use super::{
    Body,
    again::{Again, End},
    held::Held,
};
use crate::{
    balance::{Addressed, Attempted},
    call::Call,
    endpoint,
    error::Error,
    headers::Pushback,
    request_body::RequestBody,
};
use http::Response;
use std::{
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tower_service::Service;

/// Wait before it is looked again whether an attempt has found an endpoint, at least.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

type Answer = Result<Response<Body>, Error>;

/// A call of which several attempts may be under way.
///
/// # Cancel safety
///
/// Dropping it cancels them all.
pub(super) struct Hedged<S, B>
where
    S: Service<Call<RequestBody<B>>>,
{
    again: Again<S, B>,
    running: Vec<Running<S::Future>>,
    /// When the next attempt is made; none when there will be none.
    next: Option<Pin<Box<Sleep>>>,
    /// There will be no further ones.
    complete: bool,
    /// Until when the servers ask for peace.
    not_before: Option<Instant>,
    /// The latest answer that was not worth returning.
    failed: Option<Answer>,
}

/// One of them.
struct Running<F> {
    stage: Stage<F>,
    /// Who has it.
    by: Option<u64>,
    /// Nobody does: it waits for an endpoint.
    waits: bool,
}

enum Stage<F> {
    Attempt(Pin<Box<F>>),
    Hold(Box<Held>),
    Over,
}

impl<S, B> Hedged<S, B>
where
    S: Service<Call<RequestBody<B>>, Response = Attempted<Response<endpoint::Body>>, Error = Attempted<Error>, Future: Addressed>,
{
    pub(super) fn new(again: Again<S, B>, first: S::Future) -> Self {
        let mut hedged =
            Self { again, running: Vec::with_capacity(2), next: None, complete: false, not_before: None, failed: None };
        hedged.next = hedged.delay().map(|delay| Box::pin(sleep(delay)));
        hedged.running.push(Running::new(first));
        hedged
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        loop {
            let mut at = 0;
            while let Some(running) = self.running.get_mut(at) {
                let Poll::Ready(answer) = running.poll(cx, &self.again) else {
                    at += 1;
                    continue;
                };
                let by = self.running.swap_remove(at).by;
                if let Some(answer) = self.ended(answer, by) {
                    self.again.over(&answer);
                    return Poll::Ready(answer);
                }
            }
            let Some(next) = &mut self.next else { return self.failed() };
            ready!(next.as_mut().poll(cx));
            self.begin();
        }
    }

    /// The wait between attempts, as long as there are further ones.
    fn delay(&self) -> Option<Duration> {
        let policy = self.again.call.method.policy.hedging.as_ref()?;
        (!self.complete && self.again.attempts < policy.max_attempts).then_some(policy.hedging_delay)
    }

    /// What one attempt's end means for the call: its answer, if it is that.
    fn ended(&mut self, answer: Answer, by: Option<u64>) -> Option<Answer> {
        let (code, pushback) = match self.again.end(&answer, by) {
            // One that did not find an endpoint ends nothing while others are on their way.
            _ if matches!(answer, Err(Error::Full { .. } | Error::Unavailable(_))) && !self.running.is_empty() => {
                self.failed = Some(answer);
                self.no_more();
                return None;
            }
            End::Final => return Some(answer),
            End::Unseen => {
                self.running.extend(self.again.attempt().map(Running::new));
                return None;
            }
            End::Status(code, pushback) => (code, pushback),
        };
        let policy = self.again.call.method.policy.hedging.as_ref();
        if !policy.is_some_and(|policy| policy.non_fatal_status_codes.contains(&code)) {
            return Some(answer);
        }
        if let Some(throttle) = &self.again.destination.throttle {
            throttle.failed();
        }
        self.again.avoid(by);
        self.failed = Some(answer);
        let now = Instant::now();
        match pushback {
            Some(Pushback::Never) => self.no_more(),
            Some(Pushback::After(wait)) => self.not_before = self.not_before.max(Some(now + wait)),
            None => {}
        }
        let at = self.not_before.unwrap_or(now).max(now);
        // What would begin after the deadline is not waited for.
        if self.again.call.deadline.is_some_and(|deadline| at >= deadline.at) {
            self.no_more();
        }
        self.next = self.delay().map(|_| Box::pin(sleep_until(at)));
        None
    }

    /// No further attempts.
    fn no_more(&mut self) {
        (self.complete, self.next) = (true, None);
    }

    /// The answer of a call all of whose attempts failed; otherwise there is somebody to wait for.
    fn failed(&mut self) -> Poll<Answer> {
        match self.failed.take() {
            Some(answer) if self.running.is_empty() => {
                self.again.gave_up |= !matches!(answer, Err(Error::Full { .. } | Error::Unavailable(_)));
                self.again.over(&answer);
                Poll::Ready(answer)
            }
            failed => {
                self.failed = failed;
                Poll::Pending
            }
        }
    }

    /// Makes the next attempt, if it is allowed.
    fn begin(&mut self) {
        self.next = None;
        let Some(delay) = self.delay() else { return };
        if self.running.iter().any(|running| running.waits) {
            self.next = Some(Box::pin(sleep(delay.max(LOOK_AGAIN))));
            return;
        }
        let unthrottled = self.again.destination.throttle.as_ref().is_none_or(|throttle| throttle.allows());
        if !self.again.pay(unthrottled, Instant::now()) {
            return;
        }
        self.again.attempts += 1;
        for running in &self.running {
            self.again.avoid(running.by);
        }
        self.again.destination.series.hedges.fetch_add(1, Relaxed);
        self.running.extend(self.again.attempt().map(Running::new));
        self.next = self.delay().map(|delay| Box::pin(sleep(delay)));
    }
}

impl<F> Running<F>
where
    F: Future<Output = Result<Attempted<Response<endpoint::Body>>, Attempted<Error>>> + Addressed,
{
    fn new(attempt: F) -> Self {
        let (by, waits) = (attempt.endpoint(), attempt.waits());
        Self { stage: Stage::Attempt(Box::pin(attempt)), by, waits }
    }

    fn poll<S, B>(&mut self, cx: &mut Context<'_>, again: &Again<S, B>) -> Poll<Answer>
    where
        S: Service<Call<RequestBody<B>>>,
    {
        loop {
            match &mut self.stage {
                Stage::Attempt(attempt) => {
                    let Poll::Ready(answer) = attempt.as_mut().poll(cx) else {
                        (self.by, self.waits) = (attempt.endpoint(), attempt.waits());
                        return Poll::Pending;
                    };
                    match answer {
                        Ok(Attempted { by, what }) if again.holds(&what) => {
                            *self = Self { stage: Stage::Hold(Box::new(Held::new(what))), by, waits: false };
                        }
                        Ok(Attempted { by, what }) => {
                            self.by = by;
                            return Poll::Ready(Ok(what.map(Body::from)));
                        }
                        Err(Attempted { by, what }) => {
                            self.by = by;
                            return Poll::Ready(Err(what));
                        }
                    }
                }
                Stage::Hold(held) => {
                    let read = ready!(held.poll(cx));
                    let Stage::Hold(held) = std::mem::replace(&mut self.stage, Stage::Over) else { return Poll::Pending };
                    return Poll::Ready(read.map(|()| held.into_response()));
                }
                Stage::Over => return Poll::Pending,
            }
        }
    }
}
