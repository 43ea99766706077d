//! How many calls are let in at once.
//!
//! A server that takes everything answers nothing in time. Past the limit a call is refused before any work is done for
//! it, with a hint when to come back: RESOURCE_EXHAUSTED says nothing about our health, so breakers do not count it.

use crate::Limits;
use http::{HeaderValue, Request, Response};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

/// When a refused caller may come back: long enough for a burst to pass, short enough to be worth the wait.
const PUSHBACK_MS: &str = "100";

/// Adds [`Admission`]; all its services share one count.
#[derive(Debug, Clone)]
pub(crate) struct AdmissionLayer {
    calls: Arc<AtomicUsize>,
    limit: usize,
}

impl AdmissionLayer {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { calls: Arc::default(), limit: limits.calls }
    }
}

/// Refuses calls past the limit.
#[derive(Debug, Clone)]
pub(crate) struct Admission<S> {
    inner: S,
    layer: AdmissionLayer,
}

/// A place among the calls under way.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;
    fn layer(&self, inner: S) -> Self::Service {
        Admission { inner, layer: self.clone() }
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
        let under_way = self.layer.calls.fetch_add(1, Relaxed);
        let place = Place(self.layer.calls.clone());
        if under_way >= self.layer.limit {
            return AdmissionFuture { inner: None, place: None };
        }
        AdmissionFuture { inner: Some(self.inner.call(request)), place: Some(place) }
    }
}

pin_project_lite::pin_project! {
    /// The inner service's future with its place, or the refusal.
    pub(crate) struct AdmissionFuture<F> {
        #[pin]
        inner: Option<F>,
        place: Option<Place>,
    }
}

impl<F, E> Future for AdmissionFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            let mut refusal: Response<Body> = Status::resource_exhausted("the server has too many calls under way").into_http();
            refusal.headers_mut().insert("grpc-retry-pushback-ms", HeaderValue::from_static(PUSHBACK_MS));
            return Poll::Ready(Ok(refusal));
        };
        let answer = std::task::ready!(inner.poll(cx));
        // Streams count until their headers: a subscription that lasts for days must not take a place.
        *this.place = None;
        Poll::Ready(answer)
    }
}
