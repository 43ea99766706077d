//! The service that is called, written by hand as tonic would generate it: one unary method that may be repeated, one that
//! must not be, and one that answers with a stream and must not be either.

use super::world::World;
use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use sinew_client::Channel;
use sinew_core::{
    Access, Idempotency, MethodKind,
    policy::{GrpcService, Method},
};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::sleep;
use tonic::{
    Request, Response, Status,
    body::Body,
    client, server,
    server::{NamedService, ServerStreamingService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// The methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Unary, without side effects: repeated.
    Get,
    /// Unary, of which nothing is promised: never repeated once a server may have seen it.
    Put,
    /// As `Put`, answered in parts.
    Tail,
}

const fn method(path: &'static str, kind: MethodKind, idempotency: Idempotency) -> Method {
    Method { path, kind, idempotency, access: Access::Internal }
}

/// What callers' policies know of it.
pub(super) const SERVICES: &[GrpcService] = &[GrpcService {
    name: EchoServer::NAME,
    methods: &[
        method(Kind::Get.path(), MethodKind::Unary, Idempotency::NoSideEffects),
        method(Kind::Put.path(), MethodKind::Unary, Idempotency::Unknown),
        method(Kind::Tail.path(), MethodKind::ServerStreaming, Idempotency::Unknown),
    ],
}];

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Get, Self::Put, Self::Tail];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Get => "/mesh.Echo/Get",
            Self::Put => "/mesh.Echo/Put",
            Self::Tail => "/mesh.Echo/Tail",
        }
    }
}

/// A request.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Say {
    /// Which call.
    #[prost(uint64, tag = "1")]
    pub(super) call: u64,
    /// How long a server that is well works on it, and on each part of its answer, in milliseconds.
    #[prost(uint64, tag = "2")]
    pub(super) work: u64,
}

/// An answer, or a part of one.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Said {
    /// Who answers.
    #[prost(string, tag = "1")]
    pub(super) by: String,
}

/// How many parts an answer to `Tail` has.
pub(super) const PARTS: usize = 5;

/// Calls, and reads the answer to its end; who gave it.
pub(super) async fn call(channel: Channel, kind: Kind, request: Request<Say>) -> Result<String, Status> {
    let mut grpc = client::Grpc::new(channel);
    grpc.ready().await?;
    let (path, codec) = (PathAndQuery::from_static(kind.path()), ProstCodec::<Say, Said>::default());
    if kind != Kind::Tail {
        return Ok(grpc.unary(request, path, codec).await?.into_inner().by);
    }
    let mut parts = grpc.server_streaming(request, path, codec).await?.into_inner();
    let (mut by, mut count) = (String::new(), 0);
    while let Some(part) = parts.message().await? {
        by = part.by;
        count += 1;
    }
    // A stream that ends well is whole.
    if count == PARTS { Ok(by) } else { Err(Status::data_loss(format!("{count} of {PARTS} parts"))) }
}

/// One server's handlers.
#[derive(Debug, Clone)]
pub(super) struct EchoServer {
    pub(super) world: Arc<World>,
    pub(super) server: &'static str,
}

impl NamedService for EchoServer {
    const NAME: &'static str = "mesh.Echo";
}

type Pinned<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<http::Request<Body>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pinned<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut grpc = server::Grpc::new(ProstCodec::<Said, Say>::default());
            let path = request.uri().path();
            Ok(if path == Kind::Tail.path() {
                grpc.server_streaming(this, request).await
            } else if path == Kind::Get.path() || path == Kind::Put.path() {
                grpc.unary(this, request).await
            } else {
                Status::unimplemented("only Get, Put and Tail").into_http()
            })
        })
    }
}

impl UnaryService<Say> for EchoServer {
    type Response = Said;
    type Future = Pinned<Result<Response<Said>, Status>>;

    fn call(&mut self, request: Request<Say>) -> Self::Future {
        let (this, say) = (self.clone(), request.into_inner());
        Box::pin(async move {
            let _running = this.world.executes(say.call, this.server);
            this.work(say.work).await?;
            Ok(Response::new(Said { by: this.server.to_owned() }))
        })
    }
}

impl ServerStreamingService<Say> for EchoServer {
    type Response = Said;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;
    type Future = Pinned<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Say>) -> Self::Future {
        let (this, say) = (self.clone(), request.into_inner());
        Box::pin(async move {
            let running = this.world.executes(say.call, this.server);
            let parts = stream::iter(0..PARTS).then(move |_| {
                let this = this.clone();
                async move { this.work(say.work).await.map(|()| Said { by: this.server.to_owned() }) }
            });
            // Over when the stream is, or is dropped.
            let parts = parts.inspect(move |_| {
                let _ = &running;
            });
            Ok(Response::new(Box::pin(parts) as Self::ResponseStream))
        })
    }
}

impl EchoServer {
    /// Works as long as its server needs now, and ends as its server ends calls now.
    async fn work(&self, millis: u64) -> Result<(), Status> {
        let mood = self.world.mood(self.server);
        sleep(Duration::from_millis(millis) + mood.delay).await;
        match mood.fails {
            Some(code) => Err(Status::new(code, "the server fails its calls")),
            None => Ok(()),
        }
    }
}
