//! Every bound of the gateway in one place.

use std::time::Duration;

/// What the gateway lets the world do to it. Each default says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; further ones are closed at once. Browsers and load balancers hold a few each.
    pub connections: usize,
    /// Streams under way on one HTTP/2 connection. The world is not the mesh: a hundred is what browsers expect.
    pub streams_per_connection: u32,
    /// Calls under way; further ones get UNAVAILABLE. What the mesh's servers take together, and no more memory.
    pub calls: usize,
    /// Time for a connection's first bytes, and for the headers of each HTTP/1.1 request.
    pub headers: Duration,
    /// Time for the whole body of a REST request. A megabyte in ten seconds is slower than any line worth waiting for.
    pub body: Duration,
    /// Largest body of a REST request, in bytes.
    pub body_bytes: usize,
    /// Largest answer of a service that is transcoded, in bytes; pages of the largest size are well under it.
    pub answer_bytes: usize,
    /// Size of a request's headers, in bytes. Room for a token and cookies.
    pub header_bytes: u32,
    /// How deep objects and lists may nest in JSON. Contracts nest less than ten deep; parsers recurse.
    pub json_depth: usize,
    /// Longest time for a REST call, whatever the service's own config says.
    pub call: Duration,
    /// Longest time that a gRPC client may ask for.
    pub longest_grpc_timeout: Duration,
    /// Keys of rate limits kept in memory, about 100 bytes each.
    pub rate_keys: usize,
    /// Time between PINGs on a silent HTTP/2 connection, and for the answer to one.
    pub keepalive: Duration,
    /// Time for calls under way to finish when the gateway stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            streams_per_connection: 100,
            calls: 10_000,
            headers: Duration::from_secs(10),
            body: Duration::from_secs(10),
            body_bytes: 1 << 20,
            answer_bytes: 16 << 20,
            header_bytes: 16 * 1024,
            json_depth: 32,
            call: Duration::from_secs(30),
            longest_grpc_timeout: Duration::from_secs(300),
            rate_keys: 100_000,
            keepalive: Duration::from_secs(20),
            drain: Duration::from_secs(10),
        }
    }
}
