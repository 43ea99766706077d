//! The mesh's own defaults, every time a tenth: proportions stay, and a run takes a second.

use super::echo::SERVICES;
use crate::network::FOR_EVER;
use sinew_client::{BreakerConfig, Config, ConnectionConfig, RetryConfig};
use sinew_core::{Policies, Rng, ServiceName, policy::ServicePolicy};
use sinew_server::Limits;
use std::time::Duration;
use tonic::Code;

/// By how much everything is quicker here.
pub(super) const SCALE: u32 = 10;

/// How long a call may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// Attempts of a call that may be repeated.
pub(super) const ATTEMPTS: usize = 3;

/// What is retried, beside what no server has seen.
pub(super) const RETRYABLE: Code = Code::Unavailable;

/// Few enough that amplification is seen.
const RETRIES_PER_SECOND: u32 = 1;

/// A caller's settings.
pub(super) fn client() -> Config {
    let Config { connection, breaker, header_timeout, establish_wait, .. } = Config::default();
    let connection = ConnectionConfig {
        connect_timeout: connection.connect_timeout / SCALE,
        handshake_timeout: connection.handshake_timeout / SCALE,
        backoff_min: connection.backoff_min / SCALE,
        backoff_max: connection.backoff_max / SCALE,
        keepalive_interval: connection.keepalive_interval / SCALE,
        keepalive_idle: connection.keepalive_idle / SCALE,
        suspect_after: connection.suspect_after / SCALE,
        keepalive_timeout: connection.keepalive_timeout / SCALE,
        reset_stream_duration: FOR_EVER,
        ..connection
    };
    let breaker = BreakerConfig { open_for: breaker.open_for / SCALE, all_open_for: breaker.all_open_for / SCALE, ..breaker };
    let retry = RetryConfig { budget_min_per_second: RETRIES_PER_SECOND, ..RetryConfig::default() };
    let (header_timeout, establish_wait) = (header_timeout.map(|limit| limit / SCALE), establish_wait / SCALE);
    Config { connection, breaker, retry, header_timeout, establish_wait, ..Config::default() }
}

/// A server's settings.
pub(super) fn limits() -> Limits {
    let Limits { preface, keepalive_interval, keepalive_timeout, drain, settle, .. } = Limits::default();
    Limits {
        preface: preface / SCALE,
        keepalive_interval: keepalive_interval / SCALE,
        keepalive_timeout: keepalive_timeout / SCALE,
        drain: drain / SCALE,
        settle: settle / SCALE,
        // Few enough that streams which are never given back are missed.
        streams_per_connection: 50,
        ..Limits::default()
    }
}

/// How calls are spread.
const BALANCING: [&str; 4] = [
    r#"{"sinew_peak_ewma":{"decay":"0.1s"}}"#,
    r#"{"least_request_experimental":{"choiceCount":2}}"#,
    r#"{"round_robin":{}}"#,
    r#"{"sinew_random":{}}"#,
];

/// The policies of one caller, and the name by which it knows the servers: one of its own, so that its statistics are.
///
/// Tables are for ever, as generated ones are: a few hundred bytes of each run stay.
pub(super) fn policies(seed: u64, caller: usize, rng: &dyn Rng) -> anyhow::Result<(ServiceName, Policies)> {
    let name = format!("echo-{seed}-{caller}");
    let balancing = BALANCING[rng.below(BALANCING.len() as u64) as usize];
    let service_config = format!(
        r#"{{"loadBalancingConfig":[{balancing}],"methodConfig":[{{"name":[{{}}],"timeout":"1s","retryPolicy":{{
            "maxAttempts":{ATTEMPTS},"initialBackoff":"0.01s","maxBackoff":"0.1s","backoffMultiplier":2,
            "retryableStatusCodes":["UNAVAILABLE"]}}}}]}}"#
    );
    let service = ServiceName::new(&name)?;
    let table = ServicePolicy { name: name.leak(), services: SERVICES, service_config: service_config.leak() };
    Ok((service, Policies::resolve(&[table])?))
}

/// What the promises are derived from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Until a server that can be reached is connected to, whatever was before: its old connection is given up, idle as
    /// it may be, the longest backoff is sat out, and it is dialled.
    pub(super) connected: Duration,
    /// Until a server whose breaker was open is in use again: open for its time, then probed.
    pub(super) trusted: Duration,
    /// Retries per call on average, those per second, and those saved up at most.
    pub(super) retries: (f64, f64, f64),
}

impl Bounds {
    pub(super) fn of(Config { connection, breaker, retry, .. }: &Config) -> Self {
        let dial = connection.backoff_max + connection.connect_timeout + connection.handshake_timeout;
        let connected = connection.keepalive_idle + connection.keepalive_timeout + dial;
        let per_second = f64::from(retry.budget_min_per_second);
        Self {
            connected,
            trusted: breaker.open_for + connected,
            retries: (retry.budget_ratio, per_second, (per_second * 10.0).max(10.0)),
        }
    }
}
