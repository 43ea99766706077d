//! Every bound of a server in one place.

use crate::AdaptiveConcurrency;
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
    /// Calls under way in the whole server; further ones get RESOURCE_EXHAUSTED. Classes of calls have shares of it, see
    /// [`Criticality`](sinew_core::Criticality): CRITICAL_PLUS all, CRITICAL (the default) 90 %, SHEDDABLE_PLUS 75 %,
    /// SHEDDABLE 50 %.
    pub calls: usize,
    /// A limit of calls under way that follows latency, at most [`calls`](Self::calls). Off by default: it finds out whether
    /// latency is a queue's by refusing some calls, and that may be those of a healthy server whose dependency got slow.
    pub adaptive: Option<AdaptiveConcurrency>,
    /// Time for the rest of what a peer has begun: the HTTP/2 preface and SETTINGS of a connection, the headers of a
    /// request. Whoever needs longer is no gRPC client.
    pub preface: Duration,
    /// Age at which a connection is told GOAWAY, give or take a tenth so that connections of one birth do not end
    /// together; its calls finish. Only balancers that know connections instead of endpoints need it: off by default.
    /// <https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md>
    pub connection_age: Option<Duration>,
    /// Time for calls under way to finish after that; then the connection is cut. Without limit by default, as gRPC's: a
    /// stream may be meant to last.
    pub connection_age_grace: Option<Duration>,
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
    /// Frames of a connection that carry no call: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, CONTINUATION, empty DATA, unknown
    /// ones. Beyond it the connection ends with ENHANCE_YOUR_CALM. What a connection is for earns some more, so that the PINGs
    /// with which gRPC measures bandwidth are always within it: four for each call that it begins, one for each frame of
    /// data, one for every 64 bytes sent to it. Default 100 a second, 1,000 at once: none of that is done by hand.
    pub control_frames: FrameBudget,
    /// RST_STREAM frames of a connection, calls that its peer gives up. Default 1,000 a second, 2,000 at once: with a thousand
    /// streams at a time, who resets more of them resets calls that are younger than a second.
    pub resets: FrameBudget,
    /// Time for calls under way to finish after GOAWAY.
    pub drain: Duration,
    /// Time between leaving the registry and refusing work: callers whose watch is slow still arrive.
    pub settle: Duration,
}

/// How many frames of a kind a connection may send. The clock is only looked at when the burst is used up, so up to twice as
/// many may pass at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameBudget {
    /// In a second, for any length of time.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// A bound that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits.{field} must be {rule}")]
pub struct LimitsError {
    field: &'static str,
    rule: &'static str,
}

const YEAR: Duration = Duration::from_secs(365 * 86_400);

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            streams_per_connection: 1_000,
            calls: 10_000,
            adaptive: None,
            preface: Duration::from_secs(10),
            connection_age: None,
            connection_age_grace: None,
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            header_list: 16 * 1024,
            stream_window: 1 << 20,
            connection_window: 8 << 20,
            pending_resets: 1_000,
            control_frames: FrameBudget { per_second: 100, burst: 1_000 },
            resets: FrameBudget { per_second: 1_000, burst: 2_000 },
            drain: Duration::from_secs(10),
            settle: Duration::from_millis(500),
        }
    }
}

impl Limits {
    /// Whether all of it can be honoured.
    ///
    /// # Errors
    ///
    /// The first field that cannot, and what would be right.
    pub fn check(&self) -> Result<(), LimitsError> {
        // RFC 9113, 6.9.2 and 6.5.2: windows end at 2^31 - 1; below 65,535 a connection's cannot be told.
        let windows = 65_535..=(1 << 31) - 1;
        let positive = |time: Duration| !time.is_zero();
        let rules = [
            (self.connections >= 1, "connections", "at least 1"),
            (self.streams_per_connection >= 1, "streams_per_connection", "at least 1"),
            (self.calls >= 1, "calls", "at least 1"),
            (positive(self.preface), "preface", "longer than 0"),
            (self.connection_age.is_none_or(|age| positive(age) && age <= YEAR), "connection_age", "longer than 0, a year at most"),
            (
                self.connection_age_grace.is_none() || self.connection_age.is_some(),
                "connection_age_grace",
                "set with connection_age",
            ),
            (positive(self.keepalive_interval), "keepalive_interval", "longer than 0"),
            (positive(self.keepalive_timeout), "keepalive_timeout", "longer than 0"),
            (self.header_list >= 1_024, "header_list", "at least 1,024 bytes"),
            (windows.contains(&self.stream_window), "stream_window", "65,535 to 2^31 - 1 bytes"),
            (windows.contains(&self.connection_window), "connection_window", "65,535 to 2^31 - 1 bytes"),
            (self.pending_resets >= 1, "pending_resets", "at least 1"),
            // Less, and the opening of a connection may be a flood.
            (self.control_frames.burst >= 10, "control_frames.burst", "at least 10"),
            (self.resets.burst >= 1, "resets.burst", "at least 1"),
            (self.adaptive.is_none_or(|a| (1..=self.calls).contains(&a.min_limit)), "adaptive.min_limit", "1 to calls"),
            (self.adaptive.is_none_or(|a| a.tolerance > 1.0 && a.tolerance <= 100.0), "adaptive.tolerance", "above 1, up to 100"),
            (self.adaptive.is_none_or(|a| a.window >= Duration::from_millis(1)), "adaptive.window", "at least 1 ms"),
            (self.adaptive.is_none_or(|a| a.probe_interval >= a.window), "adaptive.probe_interval", "at least adaptive.window"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(LimitsError { field, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;
    use crate::AdaptiveConcurrency;
    use std::time::Duration;

    #[test]
    fn defaults_hold_and_nonsense_is_refused_by_name() {
        let adaptive = Some(AdaptiveConcurrency::default());
        assert_eq!(Limits { adaptive, ..Limits::default() }.check(), Ok(()));
        let refused = |limits: Limits| limits.check().map_err(|e| e.to_string());
        let zero = Limits { calls: 0, ..Limits::default() };
        assert_eq!(refused(zero), Err("limits.calls must be at least 1".into()));
        let adaptive = Some(AdaptiveConcurrency { tolerance: f64::NAN, ..AdaptiveConcurrency::default() });
        assert_eq!(
            refused(Limits { adaptive, ..Limits::default() }),
            Err("limits.adaptive.tolerance must be above 1, up to 100".into())
        );
        let grace = Limits { connection_age_grace: Some(Duration::ZERO), ..Limits::default() };
        assert_eq!(refused(grace), Err("limits.connection_age_grace must be set with connection_age".into()));
    }
}
