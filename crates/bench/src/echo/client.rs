//! Those who call: the message, and a client as tonic would generate it, over any channel.
//!
//! The clients of other makers, in a package of their own, are built from this file too.

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::{
    Request, Response, Status,
    body::Body,
    client::{Grpc, GrpcService as Channel},
    codegen::StdError,
};
use tonic_prost::ProstCodec;

pub(crate) const SAY: &str = "/bench.Echo/Say";

/// A channel that any number of callers may use: Sinew's, tonic's, or one that is made of it.
pub(crate) trait Transport:
    Channel<Body, ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Transport for T where
    T: Channel<Body, ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Request and response.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) payload: Bytes,
}

/// The generated client's place.
#[derive(Debug, Clone)]
pub(crate) struct EchoClient<T> {
    inner: Grpc<T>,
}

impl<T: Transport> EchoClient<T> {
    pub(crate) fn new(channel: T) -> Self {
        Self { inner: Grpc::new(channel) }
    }

    pub(crate) async fn say(&mut self, message: Message) -> Result<Response<Message>, Status> {
        self.inner.ready().await.map_err(|e| Status::unknown(format!("not ready: {}", e.into())))?;
        let codec = ProstCodec::<Message, Message>::default();
        self.inner.unary(Request::new(message), PathAndQuery::from_static(SAY), codec).await
    }
}
