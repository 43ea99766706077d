//! The channel: what generated clients run on.

use crate::{
    call::{Avoid, Call},
    deadline,
    destination::Destination,
    observe, retry,
    stack::{self, Stack},
};
use bytes::Bytes;
use http::{Request, uri::PathAndQuery};
use http_body::Frame;
use pin_project_lite::pin_project;
use sinew_core::ServiceName;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tonic::Status;
use tower_service::Service;

/// Calls one service, whichever instances it has. Cheap to clone; all channels of a service share its endpoints,
/// connections, breakers and budgets. It stays usable after its [`Client`](crate::Client) is dropped.
///
/// A tower service over HTTP requests, always ready, and so what tonic calls a `GrpcService`: give it to any generated
/// client. Errors are [`Status`]es whose source is an [`Error`](crate::Error).
#[derive(Clone)]
pub struct Channel {
    stack: Stack,
    destination: Arc<Destination>,
}

impl Channel {
    pub(crate) fn new(destination: Arc<Destination>) -> Self {
        Self { stack: stack::build(&destination.shared), destination }
    }

    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The service it calls.
    pub fn service(&self) -> &ServiceName {
        &self.destination.shared.service
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(self.service()).finish()
    }
}

impl<B> Service<Request<B>> for Channel
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = http::Response<ResponseBody>;
    type Error = Status;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<B> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/"));
        let call = Call {
            method: self.destination.shared.methods.get(path.path()),
            path,
            headers: parts.headers,
            body,
            now: Instant::now(),
            deadline: None,
            avoid: Avoid::default(),
        };
        ResponseFuture { inner: self.stack.call(call), destination: Some(self.destination.clone()) }
    }
}

pin_project! {
    /// A call under way.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the call: the server sees a reset stream, nothing else is held.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<B>
    where
        B: http_body::Body<Data = Bytes>,
        B: Send,
        B: Unpin,
        B: 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        #[pin]
        inner: <Stack as Service<Call<B>>>::Future,
        // Keeps the connections alive while the call needs one.
        destination: Option<Arc<Destination>>,
    }
}

impl<B> Future for ResponseFuture<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<http::Response<ResponseBody>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.inner.poll(cx).map(|answer| match answer {
            Ok(response) => Ok(response.map(|inner| ResponseBody { inner, _destination: this.destination.take() })),
            Err(error) => Err(error.into()),
        })
    }
}

impl<B> fmt::Debug for ResponseFuture<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

/// The answer's messages and trailers. Dropping it early resets the stream and counts the call as cancelled.
#[derive(Debug)]
pub struct ResponseBody {
    inner: deadline::Body<observe::Body<retry::Body>>,
    _destination: Option<Arc<Destination>>,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod assertions {
    use super::Channel;

    /// Any generated client can run on it, from any task.
    const fn usable<T>()
    where
        T: Clone + Send + Sync + tonic::client::GrpcService<tonic::body::Body>,
        T::ResponseBody: Send + 'static,
        T::Future: Send,
    {
    }

    const _: () = usable::<Channel>();
}
