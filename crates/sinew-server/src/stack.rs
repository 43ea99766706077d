//! What every call passes on its way to a handler. This function is the whole stack.

use crate::{
    Limits, Verifier, admission::AdmissionLayer, auth::AuthLayer, catch_panic::CatchPanicLayer, deadline::DeadlineLayer,
    observe::ObserveLayer,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use sinew_core::{Clock, Policies, ServiceName};
use std::{convert::Infallible, sync::Arc};
use tonic::{Status, body::Body, service::Routes};
use tower::{Service, ServiceBuilder};

/// Layers from the outside in; `poll_ready` of each is ready at once, and none puts the body into a box.
pub(crate) fn stack(
    service: &ServiceName,
    policies: &Arc<Policies>,
    verifier: Option<Arc<Verifier>>,
    limits: &Limits,
    clock: Arc<dyn Clock>,
    routes: Routes,
) -> impl Service<
    Request<Body>,
    Response = Response<impl HttpBody<Data = Bytes, Error = Status> + Send + use<>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ Sync
+ use<> {
    ServiceBuilder::new()
        // Sees everything, refusals and panics included.
        .layer(ObserveLayer::new(service, policies, clock))
        // Outside of all that could panic.
        .layer(CatchPanicLayer)
        // Before any work is done: a call whose time is up is not even authenticated. Sets the task's context.
        .layer(DeadlineLayer)
        // A stranger must not take places from others.
        .layer(AuthLayer::new(verifier, policies.clone()))
        .layer(AdmissionLayer::new(service, policies, limits))
        .service(routes)
}
