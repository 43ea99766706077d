//! The layers around every request, outermost first. Used by production and by tests.

use crate::{edge::Edge, edge::request_id, headers::REQUEST_ID, problem::Problem};
use http::{
    HeaderName, HeaderValue, Method, Request, Response,
    header::{AUTHORIZATION, COOKIE, LOCATION, RETRY_AFTER},
};
use std::{
    any::Any,
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};
use tonic::body::Body;
use tower::util::{BoxCloneSyncService, option_layer};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    sensitive_headers::SetSensitiveRequestHeadersLayer,
    trace::{DefaultOnFailure, DefaultOnResponse, TraceLayer},
};
use tower_layer::Layer;
use tower_service::Service;
use tracing::Level;
use uuid::Uuid;

/// The whole stack.
pub(crate) type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// How long browsers remember a preflight's answer; Chromium does not believe more than two hours.
const PREFLIGHT: Duration = Duration::from_secs(7200);

pub(crate) fn build(edge: Edge, origins: &[HeaderValue]) -> Stack {
    let service = option_layer((!origins.is_empty()).then(|| cors(origins))).layer(edge);
    // A panic is that request's alone, and still gets its id and its log line.
    let service = CatchPanicLayer::custom(panicked).layer(service);
    let service = PropagateRequestIdLayer::new(REQUEST_ID).layer(service);
    let service = trace_layer().layer(service);
    let service = SetRequestIdLayer::new(REQUEST_ID, TimeOrdered).layer(service);
    let service = SetSensitiveRequestHeadersLayer::new([AUTHORIZATION, COOKIE]).layer(service);
    let service = Forget(tower::util::MapResponse::new(service, |response: Response<_>| response.map(Body::new)));
    BoxCloneSyncService::new(service)
}

/// Only for the origins that were named: an API with bearer tokens gains nothing from `*`.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, http::header::CONTENT_TYPE, name("idempotency-key"), name("traceparent")])
        .expose_headers([
            LOCATION,
            RETRY_AFTER,
            REQUEST_ID,
            name("ratelimit-limit"),
            name("ratelimit-remaining"),
            name("ratelimit-reset"),
        ])
        .max_age(PREFLIGHT)
}

fn trace_layer() -> TraceLayer<
    tower_http::classify::SharedClassifier<tower_http::classify::ServerErrorsAsFailures>,
    impl Fn(&Request<Body>) -> tracing::Span + Clone,
> {
    TraceLayer::new_for_http()
        .make_span_with(|request: &Request<Body>| {
            let (method, path) = (request.method(), request.uri().path());
            tracing::debug_span!("request", %method, path, id = request_id(request.headers()))
        })
        .on_response(DefaultOnResponse::new().level(Level::DEBUG))
        // Calls that fail are logged where it is known why.
        .on_failure(DefaultOnFailure::new().level(Level::DEBUG))
}

fn panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("no message"), "the gateway panicked");
    Problem::failed().into_response(None)
}

/// Ids in order of time, which is how logs are read.
#[derive(Debug, Clone, Copy)]
struct TimeOrdered;

impl MakeRequestId for TimeOrdered {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        HeaderValue::try_from(Uuid::now_v7().to_string()).ok().map(RequestId::new)
    }
}

/// Takes off a client's own request id: ids are ours, so that one stands for one request.
#[derive(Debug, Clone)]
struct Forget<S>(S);

impl<S> Service<Request<Body>> for Forget<S>
where
    S: Service<Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        request.headers_mut().remove(REQUEST_ID);
        self.0.call(request)
    }
}
