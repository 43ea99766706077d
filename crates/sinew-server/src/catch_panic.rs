//! A handler that panics costs its own call: the caller gets INTERNAL, the connection and everybody else go on.

use futures_util::FutureExt;
use http::{Request, Response};
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

impl<S> Service<Request<Body>> for CatchPanic<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
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

impl<F, E> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let panic = match this.running.as_pin_mut() {
            Some(future) => match std::task::ready!(future.poll(cx)) {
                Ok(answer) => return Poll::Ready(answer),
                Err(panic) => Some(panic),
            },
            None => this.panicked.take(),
        };
        let message = panic.as_deref().map_or("", message);
        tracing::error!(panic = message, "a handler panicked");
        // What the panic says is for our log; callers learn nothing of our insides.
        Poll::Ready(Ok(Status::internal("the handler failed").into_http()))
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
