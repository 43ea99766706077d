//! Word for those who would otherwise never end that the server is leaving.
//!
//! Calls under way are given time to finish, but a subscription has no end of its own: without a word it would hold every
//! drain for its full time, and then be cut off. In the extensions of every request.

use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

use crate::ending::trailers;

/// Tells that the server has begun to drain. A handler of an endless stream takes it from its request's extensions and
/// ends the stream, with UNAVAILABLE so that the caller goes on elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Draining(CancellationToken);

impl Draining {
    /// Returns when GOAWAY is said; at once if it was.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only watches.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    pub(crate) fn begin(&self) {
        self.0.cancel();
    }
}

/// Ends the streams of a service that does not know of [`Draining`]: health's `Watch`.
#[derive(Debug, Clone)]
pub(crate) struct EndStreams<S> {
    pub inner: S,
    pub draining: Draining,
}

impl<S: NamedService> NamedService for EndStreams<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for EndStreams<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, draining) = (self.inner.call(request), self.draining.clone());
        Box::pin(async move {
            let begun = draining.0.cancelled_owned();
            Ok(answer.await?.map(|body| Body::new(EndingBody { body, begun, over: false })))
        })
    }
}

pin_project_lite::pin_project! {
    struct EndingBody {
        #[pin]
        body: Body,
        #[pin]
        begun: WaitForCancellationFutureOwned,
        over: bool,
    }
}

impl HttpBody for EndingBody {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        let this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        // What there is to say is said first: that health is NOT_SERVING now.
        match this.body.poll_frame(cx) {
            Poll::Pending => this.begun.poll(cx).map(|()| {
                *this.over = true;
                Some(Ok(trailers(&Status::unavailable("the server is leaving"))))
            }),
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
