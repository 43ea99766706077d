//! Every setting of the client, with its default and the reason for it.

use sinew_core::fault_injection::FaultInjection;
use std::{sync::Arc, time::Duration};

/// Settings of a [`Client`](crate::Client). The defaults are meant to be right; the fields exist for tests and for
/// those who have measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Connections: windows, keepalive, backoff.
    pub connection: ConnectionConfig,
    /// When an endpoint that fails its calls is left alone.
    pub breaker: BreakerConfig,
    /// How many calls there may be at once.
    pub limits: LimitsConfig,
    /// Who is near, and when health no longer counts.
    pub locality: LocalityConfig,
    /// How much may be repeated.
    pub retry: RetryConfig,
    /// Faults put in on purpose. Default none.
    pub faults: Option<Arc<FaultInjection>>,
    /// Longest wait for response headers of calls that have no deadline. Default 30 s; `None` waits for ever. Methods
    /// known to stream only their request are exempt: they are answered at their end.
    pub header_timeout: Option<Duration>,
    /// Longest wait of a call for connections that are still being established. Default 5 s: as long as one attempt
    /// to connect may take, twice over. A shorter deadline wins.
    pub establish_wait: Duration,
    /// Share of new traces that are recorded, 0 to 1. Default 1; a caller's own decision always wins. Nothing is
    /// recorded while the process exports no traces.
    pub sample_ratio: f64,
}

/// Settings of each connection.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionConfig {
    /// Longest time for name resolution and TCP together. Default 1 s: within a data centre a handshake that took
    /// longer lost packets, and a fresh attempt is faster than TCP's own second retransmission.
    pub connect_timeout: Duration,
    /// Longest time from TCP's to the answer of the first PING. Default 1 s.
    pub handshake_timeout: Duration,
    /// First wait after a failed attempt. Default 100 ms.
    pub backoff_min: Duration,
    /// Longest wait after a failed attempt. Default 1 s: a service that comes back is found within a second.
    pub backoff_max: Duration,
    /// Time between PINGs while calls are in flight. Default 1 s.
    pub keepalive_interval: Duration,
    /// Time between PINGs while none are. Default 10 s: firewalls forget after minutes, laptops after less.
    pub keepalive_idle: Duration,
    /// An unanswered PING takes the connection out of the rotation after this long. Default 500 ms.
    pub suspect_after: Duration,
    /// An unanswered PING ends the connection after this long. Default 2 s, so that with the interval before it a
    /// black hole is noticed within 3 s.
    pub keepalive_timeout: Duration,
    /// Bytes a stream may hold unread. Default 1 MiB: a stream at 1 ms of round trip still moves 1 GB/s.
    pub stream_window: u32,
    /// Bytes a connection may hold unread. Default 16 MiB: sixteen callers that stop reading do not stop the rest.
    pub connection_window: u32,
    /// How long what still arrives of a call that was given up is dropped in silence; after that each such frame is answered
    /// with a reset. Default 1 s, as h2 has it. It counts in the machine's time even where tokio's is paused: a simulation sets
    /// it so long that it never ends, or its frames would depend on how fast it runs.
    pub reset_stream_duration: Duration,
    /// Connections to one endpoint once its limit of streams is reached. Default 4.
    pub max_per_endpoint: usize,
}

/// Settings of the breaker that each endpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Consecutive failures that open it, 1 to 255. Default 5: rarer than chance at any error rate one can live with.
    pub failures: u8,
    /// The share of failures that opens it, whatever their order. Default none: an endpoint that fails some of its calls is
    /// given fewer by peak EWMA, and outlier detection compares it with the others first.
    pub rate: Option<FailureRate>,
    /// How long it stays open. Default 30 s.
    pub open_for: Duration,
    /// How long instead when there are several endpoints and all of their breakers are open. Default 1 s: what failed is then
    /// likely not the endpoints but something that they share, a database, and nobody is spared by keeping away from all.
    pub all_open_for: Duration,
    /// Calls let through at once when half open, 1 to 255. Default 3.
    pub probes: u8,
    /// Successes that close it again, 1 to 15. Default 3.
    pub successes: u8,
}

/// Opens a breaker by the share of calls that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureRate {
    /// So many failures of a hundred calls, or more; 1 to 100.
    pub percent: u8,
    /// Among the calls of the last so long, to a tenth of it; 1 s or longer.
    pub window: Duration,
    /// Only when there were so many calls in it, at least 1.
    pub minimum: u32,
}

impl BreakerConfig {
    /// How much sooner a breaker is probed when all are open.
    pub(crate) fn sooner(&self) -> Duration {
        self.open_for.saturating_sub(self.all_open_for)
    }
}

/// Bounds of what is under way, per destination: what is beyond them fails at once with UNAVAILABLE and a `RetryInfo`,
/// instead of taking memory and the destination's last strength. (Envoy's circuit breakers, gRFC A32.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Attempts under way, streams included. Default 16,384: far above what a destination that answers ever has. Calls that
    /// begin at the same moment may exceed it by one a thread.
    pub max_requests: usize,
    /// Calls that wait for an endpoint. Default 1,024: more would only overwhelm the one that comes.
    pub max_pending: usize,
}

/// Whom to prefer.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalityConfig {
    /// The caller's own zone, by the name that endpoints have in the registry. Default none: all are as near. Calls stay in it
    /// as long as enough of its endpoints are healthy.
    pub zone: Option<Arc<str>>,
    /// The share of healthy endpoints below which health is ignored, 0 to 1. Default 0.5, as Envoy's: when most endpoints fail
    /// their checks the checks are as likely wrong, and the few that pass would be run down.
    pub panic_threshold: f64,
}

/// Bounds of what is repeated, per destination.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryConfig {
    /// Retries per call, on average. Default 0.09: with what is saved up, a failing destination gets less than 1.1 times its load.
    pub budget_ratio: f64,
    /// Retries per second that are allowed where the ratio allows fewer. Default 10: at low rates a ratio alone would allow none.
    pub budget_min_per_second: u32,
    /// Bytes of a request kept for repetition. Default 256 KiB, gRPC's own default.
    pub buffer_bytes: usize,
    /// Transparent repetitions of one call: attempts that no server application saw. Default 5: a rolling restart
    /// may hand a call from one leaving server to the next a few times.
    pub transparent: u32,
}

/// A setting that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {rule}")]
pub struct ConfigError {
    field: &'static str,
    rule: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connection: ConnectionConfig::default(),
            breaker: BreakerConfig::default(),
            limits: LimitsConfig::default(),
            locality: LocalityConfig::default(),
            retry: RetryConfig::default(),
            faults: None,
            header_timeout: Some(Duration::from_secs(30)),
            establish_wait: Duration::from_secs(5),
            sample_ratio: 1.0,
        }
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(1),
            keepalive_idle: Duration::from_secs(10),
            suspect_after: Duration::from_millis(500),
            keepalive_timeout: Duration::from_secs(2),
            stream_window: 1 << 20,
            connection_window: 16 << 20,
            reset_stream_duration: Duration::from_secs(1),
            max_per_endpoint: 4,
        }
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            rate: None,
            open_for: Duration::from_secs(30),
            all_open_for: Duration::from_secs(1),
            probes: 3,
            successes: 3,
        }
    }
}

impl Default for LocalityConfig {
    fn default() -> Self {
        Self { zone: None, panic_threshold: 0.5 }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { max_requests: 16_384, max_pending: 1_024 }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { budget_ratio: 0.09, budget_min_per_second: 10, buffer_bytes: 256 << 10, transparent: 5 }
    }
}

impl Config {
    /// Refuses what cannot be honoured; called by [`Client::new`](crate::Client::new).
    pub fn check(&self) -> Result<(), ConfigError> {
        let windows = 65_535..=(1 << 31) - 1;
        let Self { connection, breaker, limits, retry, .. } = self;
        let rules = [
            (windows.contains(&connection.stream_window), "connection.stream_window", "65,535 to 2^31 - 1 bytes"),
            (windows.contains(&connection.connection_window), "connection.connection_window", "65,535 to 2^31 - 1 bytes"),
            (connection.stream_window <= connection.connection_window, "connection.stream_window", "at most connection_window"),
            (!connection.connect_timeout.is_zero(), "connection.connect_timeout", "longer than 0"),
            (!connection.handshake_timeout.is_zero(), "connection.handshake_timeout", "longer than 0"),
            (!connection.backoff_min.is_zero(), "connection.backoff_min", "longer than 0"),
            (connection.backoff_min <= connection.backoff_max, "connection.backoff_min", "at most backoff_max"),
            (!connection.keepalive_interval.is_zero(), "connection.keepalive_interval", "longer than 0"),
            (connection.suspect_after <= connection.keepalive_timeout, "connection.suspect_after", "at most keepalive_timeout"),
            (connection.max_per_endpoint >= 1, "connection.max_per_endpoint", "at least 1"),
            (breaker.failures >= 1, "breaker.failures", "1 to 255"),
            (breaker.rate.is_none_or(|rate| (1..=100).contains(&rate.percent)), "breaker.rate.percent", "1 to 100"),
            (breaker.rate.is_none_or(|rate| rate.minimum >= 1), "breaker.rate.minimum", "at least 1"),
            (breaker.rate.is_none_or(|rate| rate.window >= Duration::from_secs(1)), "breaker.rate.window", "at least 1 s"),
            (breaker.probes >= 1, "breaker.probes", "1 to 255"),
            ((1..=15).contains(&breaker.successes), "breaker.successes", "1 to 15"),
            ((0.0..=1.0).contains(&self.locality.panic_threshold), "locality.panic_threshold", "0 to 1"),
            (limits.max_requests >= 1, "limits.max_requests", "at least 1"),
            ((0.0..=1.0).contains(&retry.budget_ratio), "retry.budget_ratio", "0 to 1"),
            ((0.0..=1.0).contains(&self.sample_ratio), "sample_ratio", "0 to 1"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(ConfigError { field, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn defaults_hold_and_nonsense_is_refused_by_name() {
        assert_eq!(Config::default().check(), Ok(()));
        let mut config = Config::default();
        config.breaker.successes = 16;
        assert_eq!(config.check().map_err(|e| e.to_string()), Err("breaker.successes must be 1 to 15".into()));
        let config = Config { sample_ratio: f64::NAN, ..Config::default() };
        assert!(config.check().is_err());
    }
}
