//! The port to the services: the mesh in production, an in-process service in tests.

use http::{Request, Response};
use sinew::{Channel, Mesh};
use sinew_core::{BoxFuture, ServiceName};
use std::{collections::HashMap, fmt};
use tonic::{Status, body::Body};
use tower_service::Service;

/// Calls services by name.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// One gRPC call. Bodies stream both ways.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the response body, cancels the call.
    fn call(&self, service: &ServiceName, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>>;
}

/// The mesh's channels to every service whose policies it has.
#[derive(Debug, Clone)]
pub struct MeshBackend {
    channels: HashMap<ServiceName, Channel>,
}

impl MeshBackend {
    /// Begins to watch every service that the mesh has policies of, so that the first call finds it.
    pub fn new(mesh: &Mesh) -> Self {
        let channels = mesh.policies().destinations().map(|(name, _)| (name.clone(), mesh.channel_to(name))).collect();
        Self { channels }
    }
}

impl Backend for MeshBackend {
    fn call(&self, service: &ServiceName, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        let Some(mut channel) = self.channels.get(service).cloned() else {
            let status = Status::unavailable(format!("no policy knows the service {service}"));
            return Box::pin(std::future::ready(Err(status)));
        };
        Box::pin(async move { Ok(channel.call(request).await?.map(Body::new)) })
    }
}
