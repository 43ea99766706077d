//! The last frame of a response that we end ourselves after its headers went out.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tonic::Status;

/// `status` as trailers.
pub(crate) fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // Adding fails only for a message that cannot be a header; ours can.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}
