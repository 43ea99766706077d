//! One attempt: one HTTP/2 stream, opened in the caller's task.

use super::{Body, Slot, pump};
use crate::{
    call::Call,
    error::{self, Error},
    headers,
    request_body::RequestBody,
};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Method, Request, Response, Uri, Version, uri};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// The waiting half of an attempt: the request is out, or on its way.
///
/// # Cancel safety
///
/// Dropping it resets the stream; the server sees the cancellation.
#[derive(Debug)]
pub(crate) struct Streaming {
    response: h2::client::ResponseFuture,
    /// The sending half of a streamed request.
    pump: Option<pump::Pump>,
    /// Why a whole request was not sent, if it was not.
    unsent: Option<h2::Error>,
    slot: Option<Slot>,
    endpoint: Arc<str>,
    method: Arc<crate::method::Method>,
}

/// An attempt about to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing<B> {
    pub(crate) call: Call<RequestBody<B>>,
    pub(crate) authority: uri::Authority,
    pub(crate) endpoint: Arc<str>,
}

impl Slot {
    /// Opens a stream and sends what is at hand of the request.
    pub(crate) fn send<B>(self, outgoing: Outgoing<B>) -> Result<Streaming, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Outgoing { call, authority, endpoint } = outgoing;
        let method = call.method.clone();
        let (request, body) = request(call, authority);
        let mut send: SendRequest<Bytes> = self.0.send.clone();
        // Whatever fails here fails before HEADERS went out.
        let refused = |source| Error::Stream { endpoint: endpoint.clone(), unseen: true, source };
        let mut unsent = None;
        let empty = matches!(&body, RequestBody::Whole(bytes) if bytes.is_empty());
        let (response, mut sending) = send.send_request(request, empty).map_err(refused)?;
        let pump = match body {
            RequestBody::Whole(_) if empty => None,
            RequestBody::Whole(bytes) => {
                // The whole message is in memory already; h2 sends it as the windows allow. Where it cannot, the connection has
                // ended on another thread since the line above: the response says so, and why.
                unsent = sending.send_data(bytes, true).err();
                None
            }
            RequestBody::Stream(replay) => Some(pump::Pump::start(sending, replay)),
        };
        Ok(Streaming { response, pump, unsent, slot: Some(self), endpoint, method })
    }
}

impl Future for Streaming {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let answer = match Pin::new(&mut this.response).poll(cx) {
            Poll::Ready(answer) => answer,
            Poll::Pending => match this.unsent.take() {
                Some(source) => Err(source),
                None => return Poll::Pending,
            },
        };
        let (parts, received) = match answer {
            Ok(response) => response.into_parts(),
            Err(source) => {
                if let Some(status) = this.pump.as_ref().and_then(pump::Pump::failure) {
                    return Poll::Ready(Err(Error::RequestBody(status)));
                }
                let unseen = error::unseen(&source);
                return Poll::Ready(Err(Error::Stream { endpoint: this.endpoint.clone(), unseen, source }));
            }
        };
        let body = Body::new(received, this.pump.take(), this.slot.take(), this.endpoint.clone(), this.method.clone());
        Poll::Ready(Ok(Response::from_parts(parts, body)))
    }
}

/// Who calls, unless the caller says so itself.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("sinew/", env!("CARGO_PKG_VERSION")));

/// The HTTP/2 request of an attempt.
fn request<B>(call: Call<RequestBody<B>>, authority: uri::Authority) -> (Request<()>, RequestBody<B>) {
    let Call { method, path, mut headers, body, now, deadline, .. } = call;
    if let Some(deadline) = deadline {
        let left = deadline.at.saturating_duration_since(now);
        let value = match &method.timeout_header {
            // The first attempt under the policy's own time-out, which is nearly every call.
            Some(value) if method.policy.timeout == Some(left) => value.clone(),
            _ => headers::timeout_value(left),
        };
        headers.insert(headers::GRPC_TIMEOUT, value);
    }
    headers.entry(http::header::USER_AGENT).or_insert(USER_AGENT);
    let mut parts = uri::Parts::default();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    // Scheme, authority and path together always make a URI.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    *request.headers_mut() = headers;
    (request, body)
}
