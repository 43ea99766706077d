//! One unary call to a service: a frame out, a message or a status back.

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Version};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tonic::{Status, body::Body};

use crate::{backend::Backend, catalogue};

/// Calls `method` with one frame. The answer is at most `limit` bytes.
///
/// # Errors
///
/// What the service answered, or INTERNAL where its answer is not gRPC.
///
/// # Cancel safety
///
/// Dropping it cancels the call.
pub(crate) async fn call(
    backend: &dyn Backend,
    method: &catalogue::Method,
    headers: HeaderMap,
    frame: Bytes,
    limit: usize,
) -> Result<Bytes, Status> {
    let mut request = Request::new(Body::new(Full::new(frame)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = method.path.clone().into();
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    let response = backend.call(&method.service, request).await?;
    // A call that failed at once has its status in the headers, and nothing else.
    if let Some(status) = Status::from_header_map(response.headers()).filter(|s| s.code() != tonic::Code::Ok) {
        return Err(status);
    }
    if !response.status().is_success() {
        return Err(Status::unavailable(format!("{} answered HTTP {}", method.service, response.status())));
    }
    let collected = Limited::new(response.into_body(), limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Status::internal(format!("the answer of {} is larger than {limit} bytes", method.path));
        }
        error.downcast::<Status>().map_or_else(|e| Status::unavailable(e.to_string()), |status| *status)
    })?;
    match collected.trailers().and_then(Status::from_header_map) {
        Some(status) if status.code() == tonic::Code::Ok => {}
        Some(status) => return Err(status),
        None => return Err(Status::unavailable(format!("the answer of {} ended without a status", method.path))),
    }
    message(collected.to_bytes()).ok_or_else(|| Status::internal(format!("the answer of {} is not one plain message", method.path)))
}

/// The message in its frame: exactly one, not compressed, for we said that we take no compression.
fn message(mut frame: Bytes) -> Option<Bytes> {
    if frame.len() < 5 || frame.get_u8() != 0 {
        return None;
    }
    let length = usize::try_from(frame.get_u32()).ok()?;
    (frame.len() == length).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::message;
    use bytes::Bytes;

    #[test]
    fn only_one_whole_plain_message_is_taken() {
        assert_eq!(message(Bytes::from_static(b"\0\0\0\0\x02ab")), Some(Bytes::from_static(b"ab")));
        for bad in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x02ab", b"\0\0\0\0\x03ab", b"\0\0\0\0\x01ab"] {
            assert_eq!(message(Bytes::copy_from_slice(bad)), None, "{bad:?}");
        }
    }
}
