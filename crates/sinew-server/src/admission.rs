//! How many calls are let in at once, and whose are refused first.
//!
//! A server that takes everything answers nothing in time. Past the limit a call is refused before any work is done for
//! it, with a hint when to come back: RESOURCE_EXHAUSTED says nothing about our health, so breakers do not count it. The
//! limit is fixed, or lower than that where latency says so ([`adaptive`](crate::adaptive)). Each class of calls
//! ([`Criticality`]) has a share of it, so that those that can wait make room for those that cannot.
//!
//! gRPC's own services, health and reflection, are neither refused nor counted: a server that fails its health check because
//! it is busy leaves its load to others who are busy too.

use crate::{Limits, adaptive::Adaptive, under_way::UnderWay};
use http::{HeaderMap, HeaderValue, Request, Response};
use sinew_core::{Criticality, MethodKind, Policies, ServiceName, criticality, stats::Registry};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

/// What gRPC itself defines; nobody else's package has that name.
const INFRASTRUCTURE: &str = "/grpc.";

/// The share of the limit up to which a class is let in, in percent. A tenth is kept for those without whom it hurts at once;
/// half and a quarter are out of reach of those that can wait, so that a burst of the others finds room.
fn share(class: Criticality) -> usize {
    match class {
        Criticality::CriticalPlus => 100,
        Criticality::Critical => 90,
        Criticality::SheddablePlus => 75,
        Criticality::Sheddable => 50,
    }
}

/// When a refused caller may come back, in milliseconds: long enough for a burst to pass, short enough to be worth the wait. The
/// same for every class: balancers take it for this instance's cost, whoever is called next.
const PUSHBACK_MS: HeaderValue = HeaderValue::from_static("100");

/// Places that a class has, at least one.
fn places(limit: usize, class: Criticality) -> usize {
    limit.saturating_mul(share(class)).div_ceil(100)
}

fn class(headers: &HeaderMap) -> Criticality {
    headers.get(criticality::HEADER).map_or_else(Criticality::default, |value| Criticality::parse(value.as_bytes()))
}

/// Adds [`Admission`]; all its services share one count.
#[derive(Debug, Clone)]
pub(crate) struct AdmissionLayer(Arc<Door>);

/// Who is in, and who may come in.
#[derive(Debug)]
struct Door {
    calls: UnderWay,
    limit: usize,
    latency: Option<Latency>,
    /// By class.
    refused: [Arc<AtomicU64>; Criticality::ALL.len()],
}

/// What a limit that follows latency needs.
#[derive(Debug)]
struct Latency {
    adaptive: Adaptive,
    /// Those whose times count: the time of a stream says nothing, nor that of paths which the caller invents.
    unary: HashMap<Arc<str>, usize>,
    start: Instant,
}

impl AdmissionLayer {
    pub(crate) fn new(service: &ServiceName, policies: &Policies, limits: &Limits) -> Self {
        let service = || ("service", service.to_string());
        let refused = Criticality::ALL.map(|class| {
            let labels = vec![service(), ("criticality", class.as_str().to_owned())];
            Registry::global().counter("server_calls_refused_total", labels)
        });
        let latency = limits.adaptive.map(|settings| {
            let unary = policies.methods().filter(|m| m.kind == Some(MethodKind::Unary)).map(|m| m.path.clone());
            let unary: HashMap<_, _> = unary.enumerate().map(|(index, path)| (path, index)).collect();
            let gauge = Registry::global().gauge("server_calls_limit", vec![service()]);
            Latency { adaptive: Adaptive::new(settings, limits.calls, unary.len(), gauge), unary, start: Instant::now() }
        });
        Self(Arc::new(Door { calls: UnderWay::default(), limit: limits.calls, latency, refused }))
    }
}

impl Door {
    fn enter(self: &Arc<Self>, request: &Request<Body>) -> Result<Option<Place>, Criticality> {
        let path = request.uri().path();
        if path.starts_with(INFRASTRUCTURE) {
            return Ok(None);
        }
        let limit = self.latency.as_ref().map_or(self.limit, |latency| latency.adaptive.limit());
        let under_way = self.calls.enter(|count| {
            // Headers are looked at only where it makes a difference.
            if count <= places(limit, Criticality::Sheddable) {
                return Ok(());
            }
            let class = class(request.headers());
            if count <= places(limit, class) { Ok(()) } else { Err(class) }
        })?;
        let mut place = Place { door: self.clone(), timed: None };
        if let Some(latency) = &self.latency {
            latency.adaptive.admitted(under_way);
            place.timed = latency.unary.get(path).map(|method| (*method, latency.start.elapsed()));
        }
        Ok(Some(place))
    }

    fn refuse(&self, class: Criticality) -> Response<Body> {
        if let Some(count) = self.refused.get(class as usize) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(latency) = &self.latency {
            latency.adaptive.refused(latency.start.elapsed());
        }
        let mut refusal: Response<Body> = Status::resource_exhausted("the server has too many calls under way").into_http();
        refusal.headers_mut().insert("grpc-retry-pushback-ms", PUSHBACK_MS);
        refusal
    }
}

/// A place among the calls under way.
struct Place {
    door: Arc<Door>,
    /// Method and begin, where the time counts and has not been told.
    timed: Option<(usize, Duration)>,
}

impl Place {
    /// The call was answered, with these headers.
    fn answered(mut self, headers: &HeaderMap) {
        // Of a unary call's answer the status is among the headers only if it is an error.
        if let (Some((method, began)), Some(latency), false) =
            (self.timed.take(), &self.door.latency, headers.contains_key("grpc-status"))
        {
            latency.adaptive.succeeded(method, began, latency.start.elapsed(), self.others());
        }
    }

    /// How many are under way beside this one.
    fn others(&self) -> usize {
        self.door.calls.count().saturating_sub(1)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Not answered: its caller has gone, or its time was up.
        if let (Some((method, began)), Some(latency)) = (self.timed, &self.door.latency) {
            latency.adaptive.given_up(method, began, latency.start.elapsed(), self.others());
        }
        self.door.calls.leave();
    }
}

/// Refuses calls past the limit.
#[derive(Debug, Clone)]
pub(crate) struct Admission<S> {
    inner: S,
    door: Arc<Door>,
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;
    fn layer(&self, inner: S) -> Self::Service {
        Admission { inner, door: self.0.clone() }
    }
}

impl<S> Service<Request<Body>> for Admission<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = AdmissionFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.door.enter(&request) {
            Ok(place) => AdmissionFuture::Inner { inner: self.inner.call(request), place },
            Err(class) => AdmissionFuture::Refused { door: self.door.clone(), class },
        }
    }
}

pin_project_lite::pin_project! {
    /// The inner service's future with its place, or the refusal.
    #[project = AdmissionState]
    pub(crate) enum AdmissionFuture<F> {
        Inner { #[pin] inner: F, place: Option<Place> },
        Refused { door: Arc<Door>, class: Criticality },
    }
}

impl<F, E> Future for AdmissionFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AdmissionState::Refused { door, class } => Poll::Ready(Ok(door.refuse(*class))),
            AdmissionState::Inner { inner, place } => {
                let answer = std::task::ready!(inner.poll(cx));
                // Streams count until their headers: a subscription that lasts for days must not take a place.
                if let (Some(place), Ok(response)) = (place.take(), &answer) {
                    place.answered(response.headers());
                }
                Poll::Ready(answer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::places;
    use sinew_core::Criticality;

    #[test]
    fn each_class_has_its_share_and_none_is_shut_out() {
        assert_eq!(Criticality::ALL.map(|class| places(100, class)), [100, 90, 75, 50]);
        assert_eq!(Criticality::ALL.map(|class| places(1, class)), [1; 4]);
    }
}
