//! Why a call failed without, or in spite of, an answer; and the gRPC status it becomes.

use crate::balance::Unavailable;
use sinew_core::{ServiceName, classify::Code};
use std::{sync::Arc, time::Duration};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

/// How long a caller without room should stay away: a destination that answers has room much sooner, and one that does not
/// has none after that either.
const ROOM: Duration = Duration::from_millis(100);

/// A failed call. Callers see it as the source of a [`Status`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The deadline passed.
    #[error("{method}: the deadline of {timeout:?} has passed")]
    Deadline {
        /// Method path.
        method: Arc<str>,
        /// What the call was given.
        timeout: Duration,
    },
    /// No deadline, and no response headers either.
    #[error("{method}: no response headers within {limit:?}")]
    NoHeaders {
        /// Method path.
        method: Arc<str>,
        /// What was allowed.
        limit: Duration,
    },
    /// No endpoint could take the call.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// As many calls are under way, or wait, as are allowed.
    #[error("{service}: {limit} calls {what}, and no more are allowed")]
    Full {
        /// Which service.
        service: ServiceName,
        /// `are under way` or `wait for an endpoint`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The connection failed, or the server gave the stream up.
    #[error("{endpoint}: {}", if *.unseen { "the stream was not taken" } else { "the stream was lost" })]
    Stream {
        /// Which endpoint.
        endpoint: Arc<str>,
        /// No server application has seen the request: repeating it is free.
        unseen: bool,
        /// HTTP/2's reason.
        #[source]
        source: h2::Error,
    },
    /// A fault that was put in on purpose.
    #[error("fault injection: {why}")]
    Injected {
        /// What the call ends with.
        code: Code,
        /// `asked for`, or what is wrong with what the call's headers ask for.
        why: String,
    },
    /// The caller's request body failed.
    #[error("the request body failed")]
    RequestBody(#[source] Status),
    /// A message larger than the service config allows.
    #[error("{method}: a {what} of {bytes} bytes exceeds the {limit} that its service config allows")]
    TooLarge {
        /// Method path.
        method: Arc<str>,
        /// `request` or `response`.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: u32,
    },
}

impl Error {
    /// Whether no server application can have seen the request: repeating it costs nothing and risks nothing.
    pub fn unseen(&self) -> bool {
        matches!(self, Self::Stream { unseen: true, .. })
    }

    /// When another try is worthwhile, if that is known: the status says so in a `google.rpc.RetryInfo`.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(unavailable) => unavailable.next_probe(),
            Self::Full { .. } => Some(ROOM),
            _ => None,
        }
    }

    /// The gRPC code it becomes.
    pub fn code(&self) -> Code {
        match self {
            Self::Deadline { .. } | Self::NoHeaders { .. } => Code::DeadlineExceeded,
            Self::Unavailable(_) | Self::Full { .. } => Code::Unavailable,
            Self::Stream { source, unseen, .. } => stream_code(source, *unseen),
            Self::Injected { code, .. } => *code,
            Self::RequestBody(status) => Code::from_number(status.code() as i32),
            Self::TooLarge { .. } => Code::ResourceExhausted,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = tonic::Code::from(error.code() as i32);
        let message = match &error {
            Error::RequestBody(status) => status.message().to_owned(),
            Error::Stream { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        let mut status = match error.retry_after() {
            Some(after) => Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(after))),
            None => Status::new(code, message),
        };
        status.set_source(Arc::new(error));
        status
    }
}

/// gRPC's mapping of HTTP/2 errors (`PROTOCOL-HTTP2.md`, "Errors"); a lost connection is UNAVAILABLE.
fn stream_code(error: &h2::Error, unseen: bool) -> Code {
    if unseen || error.is_io() || error.is_go_away() {
        return Code::Unavailable;
    }
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => Code::Unavailable,
        Some(h2::Reason::CANCEL) => Code::Cancelled,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(h2::Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        _ => Code::Internal,
    }
}

/// Whether HTTP/2 itself promises that no application saw the stream (RFC 9113, 8.7): the peer refused it, or went
/// away naming an earlier one as its last. An I/O error promises nothing.
pub(crate) fn unseen(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Whether the server's application itself may have ended the stream so: a reset that came from the peer for a stream
/// it had taken.
pub(crate) fn by_application(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && !unseen(error)
}
