//! A handler that panics costs its own call: the caller gets INTERNAL, the connection and everybody else go on. That
//! holds for streams too, whose code runs when their answer is sent.

use crate::ending::trailers;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    any::Any,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

/// Adds [`CatchPanic`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatchPanicLayer;

/// Answers INTERNAL where the inner service panics.
#[derive(Debug, Clone)]
pub(crate) struct CatchPanic<S>(S);

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;
    fn layer(&self, inner: S) -> Self::Service {
        CatchPanic(inner)
    }
}

impl<S, B> Service<Request<Body>> for CatchPanic<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<GuardedBody<B>>;
    type Error = S::Error;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The handler's own state is behind an Arc and shared by calls that go on: what a panic leaves in it is the
        // handler's business, as it is with threads.
        let inner = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.call(request)));
        match inner {
            Ok(future) => CatchPanicFuture { running: Some(AssertUnwindSafe(future).catch_unwind()), panicked: None },
            Err(panic) => CatchPanicFuture { running: None, panicked: Some(panic) },
        }
    }
}

pin_project_lite::pin_project! {
    /// The inner service's future, guarded.
    pub(crate) struct CatchPanicFuture<F> {
        #[pin]
        running: Option<futures_util::future::CatchUnwind<AssertUnwindSafe<F>>>,
        panicked: Option<Box<dyn Any + Send>>,
    }
}

impl<F, B, E> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<GuardedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let panic = match this.running.as_pin_mut() {
            Some(future) => match std::task::ready!(future.poll(cx)) {
                Ok(answer) => return Poll::Ready(answer.map(|response| response.map(GuardedBody::new))),
                Err(panic) => Some(panic),
            },
            None => this.panicked.take(),
        };
        Poll::Ready(Ok(failed(panic.as_deref()).into_http::<B>().map(GuardedBody::new)))
    }
}

pin_project_lite::pin_project! {
    /// The inner service's body, guarded.
    pub(crate) struct GuardedBody<B> {
        #[pin]
        body: B,
        panicked: bool,
    }
}

impl<B> GuardedBody<B> {
    fn new(body: B) -> Self {
        Self { body, panicked: false }
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for GuardedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if *this.panicked {
            return Poll::Ready(None);
        }
        // Not polled again after a panic, so nobody sees what it left behind.
        std::panic::catch_unwind(AssertUnwindSafe(|| this.body.poll_frame(cx))).unwrap_or_else(|panic| {
            *this.panicked = true;
            Poll::Ready(Some(Ok(trailers(&failed(Some(&*panic))))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.panicked || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the panic says is for our log; callers learn nothing of our insides.
fn failed(panic: Option<&(dyn Any + Send)>) -> Status {
    tracing::error!(panic = panic.map_or("", message), "a handler panicked");
    Status::internal("the handler failed")
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
