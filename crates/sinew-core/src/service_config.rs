//! gRPC service config: the JSON that sets time-outs, retries and balancing per method.
//!
//! The language is gRPC's own (`grpc/service_config.proto`, gRFC A2, A6, A21). What is unknown or cannot be honoured
//! is refused with its path, never ignored: a retry policy that silently does nothing is found in an outage.

use crate::classify::Code;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::time::Duration;

mod balancing;
mod breaking;
mod slow_start;

pub use balancing::{
    Balancing, FailurePercentageEjection, HashKey, MaglevConfig, OutlierDetectionConfig, RandomSubsettingConfig, RingHashConfig,
    SuccessRateEjection,
};
pub use breaking::{CircuitBreakerConfig, FailureRateConfig};
pub use slow_start::SlowStartConfig;

/// A parsed service config.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceConfig {
    /// The balancing policies to try, best first.
    #[serde(default)]
    pub load_balancing_config: Vec<Balancing>,
    /// Settings per method; the most specific name wins.
    #[serde(default)]
    pub method_config: Vec<MethodConfig>,
    /// Stops retries while a server mostly fails (gRFC A6).
    #[serde(default)]
    pub retry_throttling: Option<RetryThrottling>,
    /// When an endpoint that fails its calls is left alone.
    #[serde(default)]
    pub sinew_circuit_breaker: Option<CircuitBreakerConfig>,
    /// How an endpoint that has just come is spared; not by policies that hash.
    #[serde(default)]
    pub sinew_slow_start: Option<SlowStartConfig>,
}

/// Settings of the methods it names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MethodConfig {
    /// Which methods.
    pub name: Vec<MethodName>,
    /// Longest time a call may take; the caller's own shorter deadline wins.
    #[serde(default, deserialize_with = "maybe_duration")]
    pub timeout: Option<Duration>,
    /// Whether a call waits for an endpoint instead of failing at once when none is connected.
    #[serde(default)]
    pub wait_for_ready: Option<bool>,
    /// Largest request sent, in bytes.
    #[serde(default)]
    pub max_request_message_bytes: Option<u32>,
    /// Largest response taken, in bytes.
    #[serde(default)]
    pub max_response_message_bytes: Option<u32>,
    /// When and how to try again.
    #[serde(default)]
    pub retry_policy: Option<RetryPolicy>,
    /// When to ask another endpoint as well, before the first has answered; not beside a retry policy.
    #[serde(default)]
    pub hedging_policy: Option<HedgingPolicy>,
    /// When a method that an endpoint fails is not asked of it for a while; the endpoint's other methods go on.
    #[serde(default)]
    pub sinew_circuit_breaker: Option<CircuitBreakerConfig>,
}

/// Names a method, a service (no method) or everything (neither).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodName {
    /// `shop.order.v1.OrderService`.
    #[serde(default)]
    pub service: String,
    /// `PlaceOrder`.
    #[serde(default)]
    pub method: String,
}

/// When and how to try again (gRFC A6).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first included: 2 to 5.
    pub max_attempts: u32,
    /// Upper end of the first wait.
    #[serde(deserialize_with = "duration")]
    pub initial_backoff: Duration,
    /// Upper end of every wait.
    #[serde(deserialize_with = "duration")]
    pub max_backoff: Duration,
    /// Growth from wait to wait.
    pub backoff_multiplier: f64,
    /// Answers after which to try again.
    #[serde(deserialize_with = "codes")]
    pub retryable_status_codes: Vec<Code>,
}

/// When to ask another endpoint as well (gRFC A6).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HedgingPolicy {
    /// Attempts in all, the first included: 2 to 5.
    pub max_attempts: u32,
    /// How long to wait for an answer before the next attempt is made beside it. Default 0: all at once.
    #[serde(default, deserialize_with = "duration")]
    pub hedging_delay: Duration,
    /// Answers after which the other attempts go on; any other is the call's. Default none.
    #[serde(default, deserialize_with = "codes")]
    pub non_fatal_status_codes: Vec<Code>,
}

/// Token bucket that pauses retries (gRFC A6): a failure takes 1, a success gives `token_ratio`, and retries happen
/// only above half of `max_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryThrottling {
    /// Size of the bucket, 1 to 1000.
    pub max_tokens: u32,
    /// Given back per success; three decimal places count.
    pub token_ratio: f64,
}

/// Why a service config was refused.
#[derive(Debug, thiserror::Error)]
#[error("service config of {of}: at {path}: {reason}")]
pub struct ConfigError {
    /// Whose config.
    pub of: String,
    /// Where in the document: `methodConfig[0].retryPolicy.maxAttempts`.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

impl ServiceConfig {
    /// Parses and checks the config of service `of` (named in errors).
    pub fn parse(of: &str, json: &str) -> Result<Self, ConfigError> {
        let refuse = |path: String, reason: String| ConfigError { of: of.to_owned(), path, reason };
        let mut input = serde_json::Deserializer::from_str(json);
        let config: Self =
            serde_path_to_error::deserialize(&mut input).map_err(|e| refuse(e.path().to_string(), e.into_inner().to_string()))?;
        input.end().map_err(|e| refuse("the end".into(), e.to_string()))?;
        config.check().map_err(|(path, reason)| refuse(path, reason))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (String, String)> {
        if let Some(t) = &self.retry_throttling
            && (!(1..=1000).contains(&t.max_tokens) || t.token_ratio.is_nan() || t.token_ratio <= 0.0)
        {
            return Err(("retryThrottling".into(), "maxTokens must be 1 to 1000 and tokenRatio above 0".into()));
        }
        let breaker = |at: String, breaker: &Option<CircuitBreakerConfig>| {
            let checked = breaker.as_ref().map_or(Ok(()), CircuitBreakerConfig::check);
            checked.map_err(|(field, why)| (format!("{at}sinewCircuitBreaker.{field}"), why.into()))
        };
        breaker(String::new(), &self.sinew_circuit_breaker)?;
        let slow_start = self.sinew_slow_start.as_ref().map_or(Ok(()), SlowStartConfig::check);
        slow_start.map_err(|(field, why)| (format!("sinewSlowStart.{field}"), why.into()))?;
        for (i, balancing) in self.load_balancing_config.iter().enumerate() {
            balancing.check().map_err(|(field, why)| (format!("loadBalancingConfig[{i}].{field}"), why.into()))?;
        }
        for (i, method) in self.method_config.iter().enumerate() {
            if method.name.is_empty() {
                return Err((format!("methodConfig[{i}].name"), "names no method".into()));
            }
            for (j, name) in method.name.iter().enumerate() {
                if name.service.is_empty() && !name.method.is_empty() {
                    return Err((format!("methodConfig[{i}].name[{j}]"), "a method without its service".into()));
                }
            }
            breaker(format!("methodConfig[{i}]."), &method.sinew_circuit_breaker)?;
            let hedged = method.hedging_policy.as_ref();
            if hedged.is_some_and(|hedging| !(2..=5).contains(&hedging.max_attempts)) {
                return Err((format!("methodConfig[{i}].hedgingPolicy.maxAttempts"), "must be 2 to 5".into()));
            }
            if hedged.is_some() && method.retry_policy.is_some() {
                return Err((format!("methodConfig[{i}].hedgingPolicy"), "must not be beside a retryPolicy (gRFC A6)".into()));
            }
            if let Some(retry) = &method.retry_policy {
                retry.check().map_err(|(field, why)| (format!("methodConfig[{i}].retryPolicy.{field}"), why.into()))?;
            }
        }
        Ok(())
    }

    /// The settings of one method: its own, else its service's, else the default's.
    pub fn method(&self, service: &str, method: &str) -> Option<&MethodConfig> {
        let find = |s: &str, m: &str| self.method_config.iter().find(|c| c.name.iter().any(|n| n.service == s && n.method == m));
        find(service, method).or_else(|| find(service, "")).or_else(|| find("", ""))
    }
}

impl RetryPolicy {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        // gRFC A6 clamps above 5; a number that is not what happens is refused here instead.
        if !(2..=5).contains(&self.max_attempts) {
            return Err(("maxAttempts", "must be 2 to 5"));
        }
        if self.initial_backoff.is_zero() {
            return Err(("initialBackoff", "must be longer than 0"));
        }
        if self.max_backoff.is_zero() {
            return Err(("maxBackoff", "must be longer than 0"));
        }
        if self.backoff_multiplier.is_nan() || self.backoff_multiplier <= 0.0 {
            return Err(("backoffMultiplier", "must be above 0"));
        }
        if self.retryable_status_codes.is_empty() {
            return Err(("retryableStatusCodes", "names no code"));
        }
        Ok(())
    }
}

/// protobuf's JSON form: seconds with up to nine decimals and an `s`.
fn parse_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let nanos: u32 = format!("{part:0<9}").parse().ok()?;
    // protobuf's own limit for a Duration: about 10,000 years.
    whole.parse().ok().filter(|s| *s <= 315_576_000_000).map(|secs| Duration::new(secs, nanos))
}

pub(crate) fn duration<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    parse_duration(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no duration; write seconds as in \"0.5s\"")))
}

fn maybe_duration<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    duration(input).map(Some)
}

fn codes<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Code>, D::Error> {
    let names = Vec::<String>::deserialize(input)?;
    let code = |name: &String| {
        Code::from_name(name)
            .filter(|c| *c != Code::Ok)
            .ok_or_else(|| D::Error::custom(format!("{name:?} is no status code to retry on; write names such as \"UNAVAILABLE\"")))
    };
    names.iter().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::{ServiceConfig, parse_duration};
    use std::time::Duration;

    fn refused(json: &str) -> String {
        ServiceConfig::parse("order", json).expect_err(json).to_string()
    }

    #[test]
    fn the_most_specific_name_wins() {
        let config = ServiceConfig::parse(
            "order",
            r#"{"methodConfig":[{"name":[{}],"timeout":"1s"},{"name":[{"service":"a.B"}],"timeout":"2s"},
                {"name":[{"service":"a.B","method":"C"}],"timeout":"2.5s"}]}"#,
        )
        .expect("valid");
        let timeout = |s, m| config.method(s, m).and_then(|c| c.timeout);
        assert_eq!(timeout("a.B", "C"), Some(Duration::from_millis(2500)));
        assert_eq!(timeout("a.B", "D"), Some(Duration::from_secs(2)));
        assert_eq!(timeout("x.Y", "D"), Some(Duration::from_secs(1)));
    }

    #[test]
    fn refusals_name_the_place() {
        let retry = |fields: &str| format!(r#"{{"methodConfig":[{{"name":[{{}}],"retryPolicy":{{{fields}}}}}]}}"#);
        let breaker = |fields: &str| format!(r#"{{"methodConfig":[{{"name":[{{}}],"sinewCircuitBreaker":{{{fields}}}}}]}}"#);
        let hedging = |fields: &str| format!(r#"{{"methodConfig":[{{"name":[{{}}],"hedgingPolicy":{{{fields}}}}}]}}"#);
        let balancing = |policy: &str| format!(r#"{{"loadBalancingConfig":[{policy}]}}"#);
        let subset = |size: u32, child: &str| {
            balancing(&format!(r#"{{"random_subsetting_experimental":{{"subsetSize":{size},"childPolicy":[{child}]}}}}"#))
        };
        let outliers = |field: &str| {
            balancing(&format!(r#"{{"outlier_detection_experimental":{{"childPolicy":[{{"round_robin":{{}}}}],{field}}}}}"#))
        };
        let good = r#""initialBackoff":"0.1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]"#;
        for (json, place) in [
            (r#"{"methodConfigs":[]}"#.to_owned(), "methodConfigs"),
            (r#"{"methodConfig":[{"name":[]}]}"#.to_owned(), "methodConfig[0].name"),
            (r#"{"methodConfig":[{"name":[{"method":"M"}]}]}"#.to_owned(), "methodConfig[0].name[0]"),
            (r#"{"methodConfig":[{"name":[{}],"timeout":"1m"}]}"#.to_owned(), "methodConfig[0].timeout"),
            (hedging(""), "methodConfig[0].hedgingPolicy"),
            (hedging(r#""maxAttempts":1"#), "methodConfig[0].hedgingPolicy.maxAttempts"),
            (hedging(r#""maxAttempts":2,"nonFatalStatusCodes":["OK"]"#), "hedgingPolicy.nonFatalStatusCodes"),
            (
                hedging(r#""maxAttempts":2"#)
                    .replace("\"hedgingPolicy\"", &format!(r#""retryPolicy":{{"maxAttempts":2,{good}}},"hedgingPolicy""#)),
                "methodConfig[0].hedgingPolicy: must not be beside a retryPolicy",
            ),
            (r#"{"loadBalancingConfig":[{"pick_first":{}}]}"#.to_owned(), "loadBalancingConfig[0]"),
            (balancing(r#"{"ring_hash_experimental":{}}"#), "loadBalancingConfig[0].ring_hash_experimental"),
            (balancing(r#"{"ring_hash_experimental":{"requestHashHeader":"a b"}}"#), "ring_hash_experimental.requestHashHeader"),
            (
                balancing(r#"{"ring_hash_experimental":{"requestHashHeader":"key-bin"}}"#),
                "ring_hash_experimental.requestHashHeader",
            ),
            (balancing(r#"{"ring_hash_experimental":{"requestHashHeader":"k","minRingSize":8192}}"#), "experimental.minRingSize"),
            (balancing(r#"{"sinew_maglev":{"requestHashHeader":"k","tableSize":65536}}"#), "sinew_maglev.tableSize"),
            (balancing(r#"{"sinew_peak_ewma":{"decay":"0s"}}"#), "sinew_peak_ewma.decay"),
            (balancing(r#"{"sinew_peak_ewma":{"half":"1s"}}"#), "loadBalancingConfig[0]"),
            (balancing(r#"{"least_request_experimental":{"choiceCount":1}}"#), "least_request_experimental.choiceCount"),
            (
                balancing(r#"{"ring_hash_experimental":{"requestHashHeader":"k","requestHashField":1}}"#),
                "loadBalancingConfig[0].ring_hash_experimental.requestHashHeader: must be a header, or",
            ),
            (balancing(r#"{"sinew_maglev":{"requestHashField":0}}"#), "loadBalancingConfig[0].sinew_maglev.requestHashHeader"),
            (subset(0, r#"{"round_robin":{}}"#), "random_subsetting_experimental.subsetSize"),
            (subset(5, ""), "random_subsetting_experimental.childPolicy: must name"),
            (
                subset(
                    5,
                    r#"{"outlier_detection_experimental":{"childPolicy":[{"random_subsetting_experimental":{"subsetSize":1,
                    "childPolicy":[{"round_robin":{}}]}}]}}"#,
                ),
                "loadBalancingConfig[0].random_subsetting_experimental.childPolicy[0]: must not be the same",
            ),
            (r#"{"sinewSlowStart":{"window":"0s"}}"#.to_owned(), "sinewSlowStart.window"),
            (r#"{"sinewSlowStart":{"window":"1s","aggression":0}}"#.to_owned(), "sinewSlowStart.aggression"),
            (r#"{"sinewSlowStart":{"window":"1s","minWeightPercent":0}}"#.to_owned(), "sinewSlowStart.minWeightPercent"),
            (outliers(r#""interval":"0s""#), "loadBalancingConfig[0].outlier_detection_experimental.interval"),
            (outliers(r#""maxEjectionPercent":101"#), "outlier_detection_experimental.maxEjectionPercent"),
            (outliers(r#""failurePercentageEjection":{"threshold":101}"#), "failurePercentageEjection.threshold"),
            (outliers(r#""successRateEjection":{"stdev":1}"#), "outlier_detection_experimental.successRateEjection"),
            (balancing(r#"{"outlier_detection_experimental":{"childPolicy":[]}}"#), "outlier_detection_experimental.childPolicy"),
            (
                balancing(r#"{"outlier_detection_experimental":{"childPolicy":[{"sinew_peak_ewma":{"decay":"0s"}}]}}"#),
                "outlier_detection_experimental.childPolicy[0].sinew_peak_ewma.decay",
            ),
            (retry(&format!(r#""maxAttempts":9,{good}"#)), "retryPolicy.maxAttempts"),
            (retry(&format!(r#""maxAttempts":2,{}"#, good.replace("UNAVAILABLE", "DOWN"))), "retryableStatusCodes"),
            (r#"{"retryThrottling":{"maxTokens":0,"tokenRatio":1}}"#.to_owned(), "retryThrottling"),
            (r#"{"sinewCircuitBreaker":{"consecutiveFailures":0}}"#.to_owned(), "at sinewCircuitBreaker.consecutiveFailures"),
            (r#"{"sinewCircuitBreaker":{"consecutiveFailures":300}}"#.to_owned(), "sinewCircuitBreaker.consecutiveFailures"),
            (r#"{"sinewCircuitBreaker":{"failures":3}}"#.to_owned(), "sinewCircuitBreaker"),
            (breaker(r#""failureRate":{"percent":0}"#), "methodConfig[0].sinewCircuitBreaker.failureRate.percent"),
            (breaker(r#""failureRate":{"percent":50,"window":"2h"}"#), "sinewCircuitBreaker.failureRate.window"),
            (breaker(r#""failureRate":{"percent":50,"window":"7200s"}"#), "sinewCircuitBreaker.failureRate.window"),
            (breaker(r#""failureRate":{"percent":50,"minimumRequests":0}"#), "failureRate.minimumRequests"),
            (breaker(r#""successes":16"#), "methodConfig[0].sinewCircuitBreaker.successes"),
            (breaker(r#""probes":0"#), "methodConfig[0].sinewCircuitBreaker.probes"),
            ("{} x".to_owned(), "the end"),
        ] {
            let error = refused(&json);
            assert!(error.contains(place), "{json}: {error}");
        }
    }

    #[test]
    fn every_balancing_policy_has_its_defaults() {
        for (json, shown) in [
            (r#"{"round_robin":{}}"#, "RoundRobin"),
            (r#"{"least_request_experimental":{}}"#, "LeastRequestExperimental { choice_count: 2 }"),
            (
                r#"{"ring_hash_experimental":{"requestHashHeader":"X-User"}}"#,
                r#"RingHashExperimental(RingHashConfig { min_ring_size: 1024, max_ring_size: 4096, request_hash_header: Some("x-user"), request_hash_field: None })"#,
            ),
            (r#"{"sinew_peak_ewma":{"decay":"0.5s"}}"#, "SinewPeakEwma { decay: Some(500ms) }"),
            (r#"{"sinew_weighted_round_robin":{}}"#, "SinewWeightedRoundRobin"),
            (r#"{"sinew_random":{}}"#, "SinewRandom"),
            (
                r#"{"sinew_maglev":{"requestHashHeader":"x-user"}}"#,
                r#"SinewMaglev(MaglevConfig { table_size: 65537, request_hash_header: Some("x-user"), request_hash_field: None })"#,
            ),
        ] {
            let config = ServiceConfig::parse("order", &format!(r#"{{"loadBalancingConfig":[{json}]}}"#)).expect(json);
            assert_eq!(format!("{:?}", config.load_balancing_config[0]), shown);
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1s"), Some(Duration::from_secs(1)));
        assert_eq!(parse_duration("0.05s"), Some(Duration::from_millis(50)));
        assert_eq!(parse_duration("0.000000001s"), Some(Duration::from_nanos(1)));
        for bad in ["1", "s", "-1s", "1.s", ".5s", "1e3s", "1m", "0.0000000001s", "999999999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
