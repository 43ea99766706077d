//! What happens to a request, in order: counted, its caller found, its rate looked at, then gRPC or REST.

use crate::{
    auth,
    backend::Backend,
    catalogue::Catalogue,
    client_addr::{self, Cidr},
    grpc, headers,
    limits::Limits,
    observe::Record,
    problem::Problem,
    rate::{Rates, Verdict},
    reflection::Own,
    rest,
    routes::Routes,
    transcode::Transcode,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use sinew::{Claims, Readiness, Verifier};
use sinew_core::{BoxFuture, Clock};
use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::Semaphore;
use tonic::{Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt};
use tower_service::Service;

/// Where a connection came from; in every request's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The gateway's service.
#[derive(Debug, Clone)]
pub(crate) struct Edge(pub(crate) Arc<Inner>);

/// All that requests share; nothing in it changes.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) catalogue: Catalogue,
    pub(crate) routes: Routes,
    pub(crate) transcode: Arc<dyn Transcode>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) rates: Rates,
    pub(crate) proxies: Vec<Cidr>,
    pub(crate) forward: Vec<HeaderName>,
    pub(crate) limits: Limits,
    pub(crate) own: Own,
    pub(crate) readiness: Readiness,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) calls: Arc<Semaphore>,
}

/// A caller who may go on.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) claims: Option<Claims>,
}

/// A caller who may not.
enum Refused {
    Status(Status),
    Rate(Duration),
}

impl Service<Request<Body>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let edge = self.0.clone();
        Box::pin(async move { Ok(edge.handle(request).await) })
    }
}

impl Inner {
    async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if !grpc::is_grpc(&parts.headers) && ["/healthz", "/readyz"].contains(&parts.uri.path()) {
            return self.probe(&parts);
        }
        let permit = self.calls.clone().try_acquire_owned().ok();
        let full = permit.is_none();
        let mut record = Record::begin(self.catalogue.other.clone(), &parts.headers, &self.clock, permit);
        let (verdict, admitted) = if full {
            (None, Err(Refused::Status(Status::unavailable("too many calls are under way"))))
        } else {
            self.admit(&parts).await
        };
        let mut response = if grpc::is_grpc(&parts.headers) {
            let answer = match admitted {
                Ok(caller) => grpc::handle(self, &parts, body, &caller, &mut record).await,
                Err(Refused::Status(status)) => Err(status),
                Err(Refused::Rate(wait)) => {
                    let details = ErrorDetails::with_retry_info(Some(wait));
                    Err(Status::with_error_details(tonic::Code::ResourceExhausted, "too many calls", details))
                }
            };
            answer.unwrap_or_else(Status::into_http)
        } else {
            let answer = match admitted {
                Ok(caller) => rest::handle(self, &parts, body, &caller, &mut record).await,
                Err(Refused::Status(status)) => Err(status.into()),
                Err(Refused::Rate(wait)) => Err(Problem::rate_limited(wait)),
            };
            answer.unwrap_or_else(|problem| problem.into_response(request_id(&parts.headers)))
        };
        if let Some(verdict) = verdict {
            verdict.write(response.headers_mut());
        }
        record.finish(response)
    }

    /// Finds the caller and takes the call out of that one's quota: a bad token's out of its address's.
    async fn admit(&self, parts: &http::request::Parts) -> (Option<Verdict>, Result<Admitted, Refused>) {
        let peer = parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
        let address = client_addr::client(peer, &parts.headers, &self.proxies);
        let claims = auth::authenticate(&parts.headers, &self.verifier).await;
        let verdict = self.rates.take(&parts.headers, claims.as_ref().ok().and_then(Option::as_ref), address).await;
        let admitted = match (verdict.and_then(|v| v.wait), claims) {
            (Some(wait), _) => Err(Refused::Rate(wait)),
            (None, Ok(claims)) => Ok(Admitted { claims }),
            (None, Err(status)) => Err(Refused::Status(status)),
        };
        (verdict, admitted)
    }

    /// `/healthz`: the process answers. `/readyz`: and all that must hold does. Neither counts against a quota.
    fn probe(&self, parts: &http::request::Parts) -> Response<Body> {
        if !matches!(parts.method, http::Method::GET | http::Method::HEAD) {
            let problem = Problem::wrong_method(&parts.method, &[http::Method::GET]);
            return problem.into_response(request_id(&parts.headers));
        }
        let missing = if parts.uri.path() == "/readyz" { self.readiness.missing() } else { Vec::new() };
        let (status, text) = match missing.as_slice() {
            [] => (StatusCode::OK, "ok\n".to_owned()),
            missing => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", "))),
        };
        let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

/// The id that this request was given.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(headers::REQUEST_ID)?.to_str().ok()
}
