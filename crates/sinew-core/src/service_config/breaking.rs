//! Circuit breakers in a service config: `sinewCircuitBreaker`, of the whole service or of methods.
//!
//! gRPC has no name for it. What is left out is the client's own default.

use super::{duration, maybe_duration};
use serde::Deserialize;
use std::time::Duration;

/// Settings of a circuit breaker.
///
/// Beside `methodConfig` they are for every endpoint of the service. Within one, each method that it names has a breaker of
/// its own at each endpoint, and its failures count for that one alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CircuitBreakerConfig {
    /// Failures in a row that open it, 1 to 255.
    pub consecutive_failures: Option<u8>,
    /// The share of failures that opens it, whatever their order.
    pub failure_rate: Option<FailureRateConfig>,
    /// How long it stays open.
    #[serde(deserialize_with = "maybe_duration")]
    pub open_time: Option<Duration>,
    /// How long instead when the breakers of all endpoints are open.
    #[serde(deserialize_with = "maybe_duration")]
    pub all_open_time: Option<Duration>,
    /// Calls let through at once when half open, 1 to 255.
    pub probes: Option<u8>,
    /// Successes that close it again, 1 to 15.
    pub successes: Option<u8>,
}

/// Opens a breaker by the share of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureRateConfig {
    /// So many failures of a hundred calls, or more, 1 to 100.
    pub percent: u8,
    /// Among the calls of the last so long, to a tenth of it; 1 s to an hour. Default 10 s.
    #[serde(default = "ten_seconds", deserialize_with = "duration")]
    pub window: Duration,
    /// Only when there were so many calls, at least 1. Default 20.
    #[serde(default = "twenty")]
    pub minimum_requests: u32,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn twenty() -> u32 {
    20
}

const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_secs(3_600);

impl CircuitBreakerConfig {
    /// What is wrong, if anything is: the field, and the rule that it breaks.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let rate = self.failure_rate;
        let rules = [
            (self.consecutive_failures != Some(0), "consecutiveFailures", "must be 1 to 255"),
            (self.probes != Some(0), "probes", "must be 1 to 255"),
            (self.successes.is_none_or(|n| (1..=15).contains(&n)), "successes", "must be 1 to 15"),
            (rate.is_none_or(|r| (1..=100).contains(&r.percent)), "failureRate.percent", "must be 1 to 100"),
            (rate.is_none_or(|r| r.minimum_requests >= 1), "failureRate.minimumRequests", "must be at least 1"),
            (
                rate.is_none_or(|r| (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&r.window)),
                "failureRate.window",
                "must be 1 s to an hour",
            ),
        ];
        rules.into_iter().find(|(holds, ..)| !holds).map_or(Ok(()), |(_, field, rule)| Err((field, rule)))
    }
}
