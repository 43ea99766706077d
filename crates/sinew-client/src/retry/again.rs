//! What a further attempt needs, and whether there may be one.

use super::{Body, Throttle, budget};
use crate::{
    call::Call,
    destination::Shared,
    endpoint,
    error::Error,
    headers::{self, Pushback},
    request_body::RequestBody,
};
use http::{HeaderValue, Response};
use sinew_core::{MethodKind, classify::Code, context, service_config::RetryPolicy};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;
use tower_service::Service;

/// What a further attempt needs; gone when there can be none.
pub(super) struct Again<S, B> {
    pub(super) call: Call<()>,
    pub(super) body: RequestBody<B>,
    pub(super) inner: S,
    pub(super) destination: Arc<Shared>,
    /// The method's policy repeats it, and it is not made for an inbound call that is itself a repetition.
    pub(super) may_repeat: bool,
    /// Attempts begun that a server may have seen.
    pub(super) attempts: u32,
    /// Attempts that none saw.
    pub(super) transparent: u32,
    /// It was repeated as often as it may be, or the server asked that it should not be: nor are those above worth repeating.
    pub(super) gave_up: bool,
}

/// How an attempt ended.
pub(super) enum End {
    /// No server application saw it: another one is free.
    Unseen,
    /// With the call's answer, or with one that another attempt would not change.
    Final,
    /// With a status on which the method's policy has a say.
    Status(Code, Option<Pushback>),
}

/// What to do about it.
pub(super) enum Next {
    Return,
    AtOnce,
    After(Duration),
}

impl<S, B> Again<S, B>
where
    S: Service<Call<RequestBody<B>>>,
{
    /// Whether this answer is read to its end before it is handed over: it could still be asked for again.
    pub(super) fn holds(&self, response: &Response<endpoint::Body>) -> bool {
        let policy = &self.call.method.policy;
        policy.kind == Some(MethodKind::Unary)
            && self.may_repeat
            && self.body.repeatable()
            && headers::code(response.headers()).is_none()
    }

    /// Begins another attempt, if the request can still be repeated.
    pub(super) fn attempt(&mut self) -> Option<S::Future> {
        let body = self.body.again()?;
        let mut call = self.call.clone();
        call.now = Instant::now();
        if self.attempts > 1 {
            call.headers.insert(headers::PREVIOUS_ATTEMPTS, HeaderValue::from(self.attempts - 1));
        }
        Some(self.inner.call(call.with_body(body)))
    }

    pub(super) fn judge(&mut self, answer: &Result<Response<Body>, Error>, by: Option<u64>) -> Next {
        if !self.body.repeatable() {
            return Next::Return;
        }
        let (code, pushback) = match self.end(answer, by) {
            End::Unseen => return Next::AtOnce,
            End::Final => return Next::Return,
            End::Status(code, pushback) => (code, pushback),
        };
        let method = self.call.method.clone();
        match &method.policy.retry {
            Some(policy) if policy.retryable_status_codes.contains(&code) => self.retry(policy, pushback, by),
            _ => Next::Return,
        }
    }

    /// How the attempt ended that this endpoint had.
    pub(super) fn end(&mut self, answer: &Result<Response<Body>, Error>, by: Option<u64>) -> End {
        match answer {
            Err(error) if error.unseen() && self.transparent < self.destination.config.retry.transparent => {
                self.transparent += 1;
                self.destination.series.transparent_retries.fetch_add(1, Relaxed);
                self.avoid(by);
                End::Unseen
            }
            // Another try would only be one more of too many.
            Err(Error::RequestBody(_) | Error::TooLarge { .. } | Error::Full { .. }) => End::Final,
            Err(error) => End::Status(error.code(), None),
            Ok(response) => match headers::code(response.headers()) {
                // An answer, whole or to come: committed.
                None | Some(Code::Ok) => {
                    self.succeeded();
                    End::Final
                }
                Some(code) => {
                    let pushback = headers::pushback(response.headers());
                    self.gave_up |= matches!(pushback, Some(Pushback::Never));
                    End::Status(code, pushback)
                }
            },
        }
    }

    /// A policy retry, if everything allows it.
    fn retry(&mut self, policy: &RetryPolicy, pushback: Option<Pushback>, by: Option<u64>) -> Next {
        // The throttle counts every failure of this kind, retried or not.
        let unthrottled = self.destination.throttle.as_ref().is_none_or(Throttle::failed);
        if !self.may_repeat {
            return Next::Return;
        }
        if self.attempts >= policy.max_attempts {
            self.gave_up = true;
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
        if !self.pay(unthrottled, now) {
            self.gave_up = true;
            return Next::Return;
        }
        self.destination.series.retries.fetch_add(1, Relaxed);
        self.attempts += 1;
        self.avoid(by);
        Next::After(wait)
    }

    /// Takes another attempt from the budget, if the throttle allows one and there is one in it.
    pub(super) fn pay(&self, unthrottled: bool, now: Instant) -> bool {
        let paid = unthrottled && self.destination.budget.withdraw(now);
        self.destination.series.retries_refused.fetch_add(u64::from(!paid), Relaxed);
        paid
    }

    /// The call is over, with this answer.
    pub(super) fn over(&self, answer: &Result<Response<Body>, Error>) {
        let code = match answer {
            Ok(response) => headers::code(response.headers()).filter(|code| *code != Code::Ok),
            Err(error) => Some(error.code()),
        };
        if let Some(code) = code {
            context::call_failed(self.gave_up.then_some(code));
        }
    }

    /// Further attempts prefer another endpoint than this.
    pub(super) fn avoid(&mut self, endpoint: Option<u64>) {
        endpoint.into_iter().for_each(|endpoint| self.call.avoid.add(endpoint));
    }

    pub(super) fn succeeded(&self) {
        if let Some(throttle) = &self.destination.throttle {
            throttle.succeeded();
        }
    }
}
