//! JSON over HTTP to protobuf over gRPC and back, behind one trait: reflection does it today, generated code could.

mod depth;
mod json;
mod text;

pub(crate) use json::Json;

use crate::routes::Binding;
use bytes::Bytes;
use std::fmt;

/// The parts of a REST request that its message is made of.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// Decoded segments of the path, the verb cut off.
    pub(crate) segments: &'a [&'a str],
    /// The query as it was sent.
    pub(crate) query: &'a str,
    /// The body.
    pub(crate) body: &'a [u8],
    /// `Idempotency-Key`, or one that was minted; only for methods that have the field.
    pub(crate) key: Key<'a>,
}

/// The request's idempotency key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key<'a> {
    /// From the header: must agree with the body's, if that has one.
    Sent(&'a str),
    /// Made by us: for requests that have none.
    Minted(&'a str),
}

/// A response as JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) json: Vec<u8>,
    /// Id of what was created, where the binding says that something was.
    pub(crate) created: Option<String>,
}

/// A request that cannot be what the contract asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadInput {
    pub(crate) detail: String,
    pub(crate) fields: Vec<BadField>,
}

/// One field of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadField {
    /// Where: `lines[0].quantity`.
    pub(crate) field: String,
    /// What is wrong there.
    pub(crate) description: String,
}

impl BadInput {
    pub(crate) fn whole(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), fields: Vec::new() }
    }

    pub(crate) fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        Self { detail: format!("{field}: {description}"), fields: vec![BadField { field, description }] }
    }
}

/// A service's answer that is not what its contract says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadAnswer {
    #[error("the response is no {message}")]
    Decode {
        message: String,
        #[source]
        source: prost::DecodeError,
    },
    #[error("the response cannot be written as JSON")]
    Encode(#[from] serde_json::Error),
}

/// Turns REST requests into messages and messages into REST responses.
pub(crate) trait Transcode: fmt::Debug + Send + Sync {
    /// The request as one gRPC frame: its 5 bytes and the message.
    fn request(&self, binding: &Binding, input: &Input<'_>) -> Result<Bytes, BadInput>;

    /// The response message as JSON.
    fn response(&self, binding: &Binding, message: Bytes) -> Result<Answer, BadAnswer>;
}
