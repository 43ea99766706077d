//! Chooses the endpoint of each attempt.
//!
//! One load of the destination's snapshot, one pick, one breaker permit and one stream slot; no lock. A [`Picker`] (each
//! [`Policy`] has a file of its own) only says whom to try first: who cannot take the call (breaker open, every stream
//! taken) is passed over for the next one. When nobody can, the call waits if waiting may help (something is still being
//! established, or the method waits for ready endpoints) and otherwise fails at once, saying why.

mod crowd;
mod key;
mod least_request;
mod maglev;
mod peak_ewma;
mod policy;
mod random;
mod ring_hash;
mod round_robin;
mod schedule;
#[cfg(test)]
mod tests;
mod unavailable;
mod weighted_round_robin;

#[doc(hidden)]
pub use crowd::{Crowd, next_snapshot};
pub(crate) use policy::{Hint, Picker, Policy, policy};
pub use unavailable::Unavailable;

use crate::{
    breaker::Permit,
    call::{Avoid, Call},
    connection::Slot,
    destination::Shared,
    endpoint::{self, Endpoint},
    error::Error,
    request_body::RequestBody,
    snapshot::{Level, Ready},
};
use bytes::Bytes;
use http::Response;
use pin_project_lite::pin_project;
use sinew_core::BoxFuture;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

/// An endpoint that will take the call.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) permit: Permit,
    pub(crate) slot: Slot,
}

/// An answer, or its failure, and whose it was.
#[derive(Debug)]
pub(crate) struct Attempted<T> {
    pub(crate) by: Option<u64>,
    pub(crate) what: T,
}

/// The layer's service: the bottom of the stack that is built per destination.
#[derive(Debug, Clone)]
pub(crate) struct Balance {
    destination: Arc<Shared>,
}

impl Balance {
    pub(crate) fn new(destination: Arc<Shared>) -> Self {
        Self { destination }
    }
}

impl<B> Service<Call<RequestBody<B>>> for Balance
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Attempted<Response<endpoint::Body>>;
    type Error = Attempted<Error>;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call<RequestBody<B>>) -> ResponseFuture<B> {
        let key = self.destination.policy.key().and_then(|key| key::hash(key, &call));
        let wish = Wish { key, avoid: call.avoid, breaker: call.method.breaker };
        match pick(&self.destination, call.now, wish) {
            Ok(picked) => ResponseFuture::sending(picked, call, &self.destination),
            Err(_) => {
                let wait = wait(self.destination.clone(), call.now, wish, call.method.policy.wait_for_ready);
                ResponseFuture::Waiting { wait: Box::pin(wait), call: Some(call), destination: self.destination.clone() }
            }
        }
    }
}

// === impl ResponseFuture ===

pin_project! {
    /// Waits for an endpoint, seldom, then for its answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives back the permit and the slot, and resets the stream.
    #[project = Projected]
    pub(crate) enum ResponseFuture<B> {
        Waiting {
            wait: BoxFuture<'static, Result<Picked, Error>>,
            call: Option<Call<RequestBody<B>>>,
            destination: Arc<Shared>,
        },
        Sending {
            by: u64,
            #[pin]
            answer: endpoint::ResponseFuture,
        },
    }
}

impl<B> ResponseFuture<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn sending(picked: Picked, call: Call<RequestBody<B>>, destination: &Shared) -> Self {
        Self::Sending { by: picked.endpoint.number, answer: picked.send(call, destination.authority.clone()) }
    }
}

/// An attempt under way that can say whom it went to.
pub(crate) trait Addressed {
    /// The endpoint's number; none while it waits for one.
    fn endpoint(&self) -> Option<u64>;

    /// Whether it waits for an endpoint.
    fn waits(&self) -> bool {
        self.endpoint().is_none()
    }
}

impl<B> Addressed for ResponseFuture<B> {
    fn endpoint(&self) -> Option<u64> {
        match self {
            Self::Waiting { .. } => None,
            Self::Sending { by, .. } => Some(*by),
        }
    }
}

impl<B> Future for ResponseFuture<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Attempted<Response<endpoint::Body>>, Attempted<Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project() {
                Projected::Sending { by, answer } => {
                    let by = Some(*by);
                    return Poll::Ready(match ready!(answer.poll(cx)) {
                        Ok(response) => Ok(Attempted { by, what: response }),
                        Err(error) => Err(Attempted { by, what: error }),
                    });
                }
                Projected::Waiting { wait, call, destination } => match ready!(wait.as_mut().poll(cx)) {
                    Err(error) => return Poll::Ready(Err(Attempted { by: None, what: error })),
                    Ok(picked) => {
                        let Some(mut call) = call.take() else { return Poll::Pending };
                        call.now = Instant::now();
                        Self::sending(picked, call, destination)
                    }
                },
            };
            self.set(next);
        }
    }
}

// === picking ===

/// What a call wishes.
#[derive(Debug, Clone, Copy)]
struct Wish {
    /// The hash of what keeps calls together, if the policy has that and the call too.
    key: Option<u64>,
    /// Whom to take last: the endpoints of the attempts before.
    avoid: Avoid,
    /// Which breaker is asked: the method's own, or the endpoint's.
    breaker: Option<usize>,
}

/// Why nobody was picked, beyond what the snapshot itself says.
#[derive(Debug, Default)]
struct Passed {
    /// Breakers that refused, and when the first of them probes.
    open: usize,
    next_probe: Option<Instant>,
    /// Endpoints whose every stream was taken, and whether one of them may get another connection.
    full: usize,
    growing: bool,
    /// As many attempts are under way as are allowed.
    limited: bool,
}

/// A place among the calls that wait; given back when dropped.
struct Pending(Arc<Shared>);

fn pick(destination: &Shared, now: Instant, Wish { key, avoid, breaker }: Wish) -> Result<Picked, Passed> {
    if destination.in_flight.load(Relaxed) >= destination.config.limits.max_requests {
        return Err(Passed { limited: true, ..Passed::default() });
    }
    let snapshot = destination.snapshot.load();
    let random = destination.random();
    // A picker looks at the upper bits. Calls with the same key stay on the same level, too.
    let draw = key.unwrap_or(random) & 0xffff_ffff;
    let at = snapshot.levels.iter().position(|level| draw < level.below).unwrap_or_default();
    let Some(level) = snapshot.levels.get(at) else { return Err(Passed::default()) };
    let mut first = level.picker.pick(&level.ready, Hint { random, key: key.unwrap_or(random), now });
    if destination.slow_start.is_some() && is_spared(destination, level.ready.get(first), now) {
        // Once: where all have just come, nobody is spared by going on.
        let random = destination.random();
        first = level.picker.pick(&level.ready, Hint { random, key: random, now });
    }
    let others = |same_priority: bool| {
        let wanted = move |(n, other): &(usize, &Level)| *n != at && (other.priority == level.priority) == same_priority;
        snapshot.levels.iter().enumerate().filter(wanted).flat_map(|(_, level)| &level.ready)
    };
    let near = || {
        let (before, from) = level.ready.split_at_checked(first).unwrap_or((&level.ready, &[]));
        from.iter().chain(before).chain(others(true))
    };
    let avoided = |ready: &&Arc<Ready>| avoid.contains(ready.endpoint.number);
    // Whoever failed the attempt before is still better than one that should stand by.
    let candidates = || near().filter(|r| !avoided(r)).chain(near().filter(avoided)).chain(others(false));
    let take_one = |ahead: Duration| {
        let mut passed = Passed::default();
        candidates().find_map(|ready| take(ready, breaker, destination, (now, ahead), &mut passed)).ok_or(passed)
    };
    let picked = take_one(Duration::ZERO);
    // Not one is healthy: their breakers are probed sooner.
    let all_open = |passed: &Passed| passed.open > 1 && passed.open == snapshot.ready().count();
    match picked {
        Err(passed) if all_open(&passed) => take_one(destination.breakers.of(breaker).sooner()),
        picked => picked,
    }
}

/// Whether another one is picked, because this one has just come.
#[cold]
fn is_spared(destination: &Shared, ready: Option<&Arc<Ready>>, now: Instant) -> bool {
    let (Some(slow_start), Some(ready)) = (&destination.slow_start, ready) else { return false };
    let share = slow_start.share(ready.endpoint.age(now));
    share < 1.0 && destination.random_unit() >= share
}

/// Takes a slot and a permit of one endpoint, or notes why not. Breakers are asked as if it were so much later.
fn take(
    ready: &Ready,
    breaker: Option<usize>,
    destination: &Shared,
    (now, ahead): (Instant, Duration),
    passed: &mut Passed,
) -> Option<Picked> {
    let slot = match ready.connections.as_slice() {
        [only] => only.reserve(),
        several => several.iter().min_by_key(|c| c.streams()).and_then(|c| c.reserve()),
    };
    let Some(slot) = slot else {
        passed.full += 1;
        passed.growing |= ready.connections.len() < destination.config.connection.max_per_endpoint;
        destination.crowded(&ready.endpoint);
        return None;
    };
    match ready.endpoint.breakers.of(breaker).acquire(now + ahead) {
        Ok(permit) => Some(Picked { endpoint: ready.endpoint.clone(), permit, slot }),
        Err(refused) => {
            passed.open += 1;
            passed.next_probe = match (passed.next_probe, refused.until.map(|until| until - ahead)) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            None
        }
    }
}

impl Pending {
    /// None when as many wait as are allowed.
    fn take(destination: &Arc<Shared>) -> Option<Self> {
        destination.pending.take(destination.config.limits.max_pending).then(|| Self(destination.clone()))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.give_back();
    }
}

/// How often a waiting call looks again at what announces nothing: streams that end, probes that return. Long enough
/// to cost nothing, short beside any time-out of people.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Picks again whenever something changes, for as long as that may help. The caller's deadline bounds it from above.
async fn wait(destination: Arc<Shared>, started: Instant, wish: Wish, for_ready: bool) -> Result<Picked, Error> {
    let full = |what, limit| Error::Full { service: destination.service.clone(), what, limit };
    let limits = &destination.config.limits;
    let limit = started + destination.config.establish_wait;
    let mut place = None;
    loop {
        // What is published from here on is noticed below.
        let changed = destination.changed.notified();
        let now = Instant::now();
        let passed = match pick(&destination, now, wish) {
            Ok(picked) => return Ok(picked),
            Err(passed) if passed.limited => return Err(full("are under way", limits.max_requests)),
            Err(passed) => passed,
        };
        let snapshot = destination.snapshot.load_full();
        if !for_ready && !((snapshot.establishing || passed.growing) && now < limit) {
            return Err(Unavailable::new(&destination.service, &snapshot, passed, now).into());
        }
        // One that does not wait needs no place to.
        if place.is_none() {
            place = Some(Pending::take(&destination).ok_or_else(|| full("wait for an endpoint", limits.max_pending))?);
        }
        let look_again = if passed.full > 0 || passed.open > 0 { now + LOOK_AGAIN } else { limit.max(now + LOOK_AGAIN) };
        tokio::select! { biased;
            () = changed => {}
            () = sleep_until(look_again) => {}
        }
    }
}
