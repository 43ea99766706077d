//! gRPC, passed through: the frames go by as they come, in both directions, and nothing is kept.

use crate::{
    auth,
    edge::{Admitted, Inner},
    headers::{self, NoTrailers},
    observe::Record,
};
use http::{HeaderMap, Method, Request, Response, Version, header::CONTENT_TYPE, request::Parts};
use sinew_core::{Context, context::scope};
use tonic::{Status, body::Body};
use tower_service::Service;

/// Whether the request is gRPC: `application/grpc`, `application/grpc+proto`. gRPC-Web is another protocol.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let rest = kind.get(..16).filter(|k| k.eq_ignore_ascii_case("application/grpc")).and_then(|_| kind.get(16..));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';', ' ']))
}

pub(crate) async fn handle(
    edge: &Inner,
    parts: &Parts,
    body: Body,
    caller: &Admitted,
    record: &mut Record,
) -> Result<Response<Body>, Status> {
    let path = parts.uri.path();
    if parts.version != Version::HTTP_2 || parts.method != Method::POST {
        return Err(Status::invalid_argument("gRPC is POST over HTTP/2"));
    }
    if edge.own.serves(path) {
        let mut request = Request::from_parts(parts.clone(), body);
        // Own services take nothing from headers.
        request.extensions_mut().clear();
        return edge.own.routes.clone().call(request).await.map_err(|never| match never {});
    }
    // INTERNAL methods are not in the catalogue: to the world they are what never was.
    let method = edge.catalogue.get(path).ok_or_else(|| Status::unimplemented(""))?;
    record.method(&method.stats, path);
    auth::permit(method.access, caller.claims.as_ref())?;

    let request_id = parts.headers.get(headers::REQUEST_ID);
    let mut request = Request::new(Body::new(NoTrailers::new(body)));
    *request.method_mut() = Method::POST;
    // From the catalogue: a query has no meaning here.
    *request.uri_mut() = method.path.clone().into();
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers::from_grpc(&parts.headers, request_id, &edge.forward, edge.limits.longest_grpc_timeout)?;
    let context = Context { trace: record.trace(), ..Context::default() };
    let answer = scope(context, edge.backend.call(&method.service, request)).await;
    let mut response = answer.map_err(|status| match status.code() {
        tonic::Code::Unavailable => {
            // Endpoints and why they are out are not the world's business.
            tracing::warn!(method = path, message = status.message(), "a call failed");
            Status::unavailable("the service cannot answer at the moment; try again")
        }
        _ => status,
    })?;
    headers::clean_answer(response.headers_mut());
    Ok(response)
}
