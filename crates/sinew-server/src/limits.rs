//! Every bound of a server in one place.

use std::time::Duration;

/// What one server lets others do to it. Each default says why. The size of a message is tonic's to bound, 4 MiB unless
/// the generated service is told otherwise.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; further ones are closed at once. A mesh peer needs one or two, so ten thousand is a fleet.
    pub connections: usize,
    /// Streams under way on one connection (SETTINGS_MAX_CONCURRENT_STREAMS). A thousand slow calls from one peer say
    /// that something is wrong; the peer opens another connection or fails fast.
    pub streams_per_connection: u32,
    /// Calls under way in the whole server; further ones get RESOURCE_EXHAUSTED.
    pub calls: usize,
    /// Time for the rest of what a peer has begun: the HTTP/2 preface and SETTINGS of a connection, the headers of a
    /// request. Whoever needs longer is no gRPC client.
    pub preface: Duration,
    /// Age at which a connection is told GOAWAY, give or take a tenth so that connections of one birth do not end
    /// together; its calls finish. Only balancers that know connections instead of endpoints need it: off by default.
    /// <https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md>
    pub connection_age: Option<Duration>,
    /// Time between PINGs to a peer from which nothing comes.
    pub keepalive_interval: Duration,
    /// Time for the answer to a PING. With the interval: a dead peer holds a connection for at most 30 s.
    pub keepalive_timeout: Duration,
    /// Size of a request's headers, in bytes. Room for a token and tracing, not for a novel.
    pub header_list: u32,
    /// Flow-control window of a stream, in bytes: a request of this size needs no round trip.
    pub stream_window: u32,
    /// Flow-control window of a connection, in bytes: eight slow streams with full windows leave room for others.
    pub connection_window: u32,
    /// Streams that a peer may have reset before we looked at them. A process that was frozen for a moment wakes up to
    /// every call that its peers have given up on; with the library's default of 20 that ends the connection.
    pub pending_resets: usize,
    /// Time for calls under way to finish after GOAWAY.
    pub drain: Duration,
    /// Time between leaving the registry and refusing work: callers whose watch is slow still arrive.
    pub settle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            streams_per_connection: 1_000,
            calls: 10_000,
            preface: Duration::from_secs(10),
            connection_age: None,
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            header_list: 16 * 1024,
            stream_window: 1 << 20,
            connection_window: 8 << 20,
            pending_resets: 1_000,
            drain: Duration::from_secs(10),
            settle: Duration::from_millis(500),
        }
    }
}
