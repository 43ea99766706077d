//! A call on its way down the stack.

use crate::method::Method;
use http::{HeaderMap, uri::PathAndQuery};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// What the layers hand to one another: an HTTP request taken apart, with what they have decided about it.
///
/// A struct of our own instead of request extensions, which cost a boxed map per call.
#[derive(Debug, Clone)]
pub(crate) struct Call<B> {
    /// What is known of the method, and its series.
    pub(crate) method: Arc<Method>,
    /// The method's path; scheme and authority are the destination's.
    pub(crate) path: PathAndQuery,
    /// The caller's headers, and what layers added.
    pub(crate) headers: HeaderMap,
    /// The message or messages.
    pub(crate) body: B,
    /// When the running attempt began; for the first one, when the call did.
    pub(crate) now: Instant,
    /// When the caller stops waiting, and how long that was at the beginning.
    pub(crate) deadline: Option<Deadline>,
    /// The endpoints that had the attempts before; others are preferred.
    pub(crate) avoid: Avoid,
}

/// Up to four endpoints, by number: as many as a call of five attempts has behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Avoid([u64; 4]);

impl Avoid {
    /// One more; the oldest of five is forgotten.
    pub(crate) fn add(&mut self, endpoint: u64) {
        if !self.contains(endpoint) {
            self.0.rotate_right(1);
            self.0[0] = endpoint;
        }
    }

    /// Whether this one is among them.
    pub(crate) fn contains(&self, endpoint: u64) -> bool {
        // The usual call has none.
        self.0[0] != 0 && self.0.contains(&endpoint)
    }
}

/// The end of a call's time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) timeout: Duration,
}

impl<B> Call<B> {
    /// The call without its body, and the body.
    pub(crate) fn split(self) -> (Call<()>, B) {
        let Self { method, path, headers, body, now, deadline, avoid } = self;
        (Call { method, path, headers, body: (), now, deadline, avoid }, body)
    }

    /// The same call with another body.
    pub(crate) fn with_body<T>(self, body: T) -> Call<T> {
        let Self { method, path, headers, body: _, now, deadline, avoid } = self;
        Call { method, path, headers, body, now, deadline, avoid }
    }
}
