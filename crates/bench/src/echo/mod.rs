//! The service that is called: one unary method that returns its message. Written by hand as tonic would generate it.

mod client;

pub(crate) use client::{EchoClient, Message, SAY, Transport};

use bytes::Bytes;
use sinew_client::{BreakerConfig, Config};
use sinew_core::{
    Access, Idempotency, MethodKind,
    policy::{GrpcService, Method, ServicePolicy},
};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};
use tonic::{Request, Response, Status, body::Body, codegen::BoxFuture, server::UnaryService};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// The name in the registry.
pub(crate) const NAME: &str = "echo";

/// What Sinew's channel knows of it: a default time-out and retries, as a real service has.
pub(crate) const POLICY: ServicePolicy = ServicePolicy {
    name: NAME,
    services: &[GrpcService {
        name: "bench.Echo",
        methods: &[Method {
            path: SAY,
            kind: MethodKind::Unary,
            idempotency: Idempotency::NoSideEffects,
            access: Access::Internal,
        }],
    }],
    service_config: r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.05s",
        "maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}],
        "retryThrottling":{"maxTokens":100,"tokenRatio":0.1}}"#,
};

/// The same service as one whose calls must not be repeated.
pub(crate) const ONCE: ServicePolicy = ServicePolicy {
    name: NAME,
    services: &[GrpcService {
        name: "bench.Echo",
        methods: &[Method { path: SAY, kind: MethodKind::Unary, idempotency: Idempotency::Unknown, access: Access::Internal }],
    }],
    service_config: "{}",
};

/// [`POLICY`] without a throttle: only the client's budget bounds retries.
pub(crate) const UNTHROTTLED: ServicePolicy = ServicePolicy {
    service_config: r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.05s",
        "maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#,
    ..POLICY
};

/// Breakers that let everything through: they open late, and are half open at once.
pub(crate) fn without_breakers(config: Config) -> Config {
    let (open_for, all_open_for) = (Duration::ZERO, Duration::ZERO);
    Config { breaker: BreakerConfig { failures: 255, rate: None, open_for, all_open_for, probes: 255, successes: 1 }, ..config }
}

impl Message {
    /// 100 bytes, of which the first eight tell one call from all others.
    pub(crate) fn numbered(id: u64) -> Self {
        let mut payload = [7; 100];
        payload.iter_mut().zip(id.to_le_bytes()).for_each(|(to, from)| *to = from);
        Self { payload: Bytes::copy_from_slice(&payload) }
    }

    /// What tells the call from others.
    pub(crate) fn id(&self) -> Option<u64> {
        self.payload.first_chunk().map(|id| u64::from_le_bytes(*id))
    }
}

/// What Consul's gRPC check asks for.
const CHECK: &str = "/grpc.health.v1.Health/Check";

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Health {
    #[prost(int32, tag = "1")]
    status: i32,
}

struct Serving;

impl UnaryService<HealthRequest> for Serving {
    type Response = Health;
    type Future = Ready<Result<Response<Health>, Status>>;

    fn call(&mut self, _: Request<HealthRequest>) -> Self::Future {
        ready(Ok(Response::new(Health { status: 1 })))
    }
}

/// The generated server's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EchoServer;

struct Say;

impl UnaryService<Message> for Say {
    type Response = Message;
    type Future = Ready<Result<Response<Message>, Status>>;

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

impl Service<http::Request<hyper::body::Incoming>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        Box::pin(async move {
            match request.uri().path() {
                SAY => {}
                CHECK => {
                    let codec = ProstCodec::<Health, HealthRequest>::default();
                    return Ok(tonic::server::Grpc::new(codec).unary(Serving, request.map(Body::new)).await);
                }
                _ => return Ok(Status::unimplemented("only Say and Check").into_http()),
            }
            let codec = ProstCodec::<Message, Message>::default();
            Ok(tonic::server::Grpc::new(codec).unary(Say, request.map(Body::new)).await)
        })
    }
}
