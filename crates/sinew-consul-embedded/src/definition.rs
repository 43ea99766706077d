//! Registrations as they come in: read as strictly as Consul does, with its words for what is wrong.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Body of `agent/service/register`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct ServiceDefinition {
    #[serde(rename = "ID", default)]
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    #[serde(default)]
    pub meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub port: u16,
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub tagged_addresses: Option<BTreeMap<String, Address>>,
    #[serde(default)]
    pub weights: Option<Weights>,
    #[serde(default)]
    pub enable_tag_override: bool,
    #[serde(default)]
    pub check: Option<CheckDefinition>,
    #[serde(default)]
    pub checks: Option<Vec<CheckDefinition>>,
}

/// An address under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Address {
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub port: u16,
}

/// Shares of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Weights {
    #[serde(default)]
    pub passing: i64,
    #[serde(default)]
    pub warning: i64,
}

/// A check of a service: gRPC or TTL.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct CheckDefinition {
    #[serde(rename = "CheckID", default)]
    pub check_id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub notes: String,
    #[serde(default)]
    pub status: String,
    #[serde(rename = "GRPC", default)]
    pub grpc: String,
    #[serde(rename = "GRPCUseTLS", default)]
    pub grpc_use_tls: bool,
    #[serde(rename = "TTL", default)]
    pub ttl: Option<String>,
    #[serde(default)]
    pub interval: Option<String>,
    #[serde(default)]
    pub timeout: Option<String>,
    #[serde(default)]
    pub deregister_critical_service_after: Option<String>,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Asks a gRPC server for its health.
    Grpc {
        /// `host:port` or `host:port/service`.
        target: String,
        interval: Duration,
        timeout: Duration,
    },
    /// Is told; fails when it is not told in time.
    Ttl(Duration),
    /// An operator's or a drain's: fails until it is lifted.
    Maintenance,
}

/// Consul's default time-out of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Consul's least time before a critical service is forgotten.
const LEAST_FORGET: Duration = Duration::from_secs(60);

impl ServiceDefinition {
    /// Parses and checks a body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let mut definition: Self = serde_json::from_slice(body).map_err(|e| format!("Request decode failed: {}", go_words(&e)))?;
        if definition.name.is_empty() {
            return Err("Missing service name".into());
        }
        if definition.id.is_empty() {
            definition.id.clone_from(&definition.name);
        }
        if let Some(weights) = definition.weights {
            if weights.passing < 1 {
                return Err("Invalid Weights: Passing must be greater than 0".into());
            }
            if weights.warning < 0 {
                return Err("Invalid Weights: Warning must be greater or equal than 0".into());
            }
            if weights.passing > 65_535 || weights.warning > 65_535 {
                return Err("Invalid Weights: DNS Weight must be between 0 and 65535".into());
            }
        }
        for (key, value) in definition.meta.iter().flatten() {
            if key.len() > 128 || value.len() > 512 {
                return Err(format!("Invalid Service Meta: Key or Value is too long ({key})"));
            }
        }
        Ok(definition)
    }

    /// Its checks, the single one first.
    pub(crate) fn all_checks(&self) -> impl Iterator<Item = &CheckDefinition> {
        self.check.iter().chain(self.checks.iter().flatten())
    }
}

impl CheckDefinition {
    /// What the check does.
    pub(crate) fn kind(&self) -> Result<Kind, String> {
        let length = |text: &Option<String>| text.as_deref().map_or(Ok(Duration::ZERO), duration);
        let (ttl, interval, timeout) = (length(&self.ttl)?, length(&self.interval)?, length(&self.timeout)?);
        match (self.grpc.is_empty(), ttl.is_zero()) {
            (false, true) if self.grpc_use_tls => {
                Err("Invalid check: GRPCUseTLS needs a real Consul; the embedded agent checks plaintext only".into())
            }
            (false, true) if interval.is_zero() => {
                Err("Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks".into())
            }
            (false, true) => Ok(Kind::Grpc {
                target: self.grpc.clone(),
                interval,
                timeout: if timeout.is_zero() { PROBE_TIMEOUT } else { timeout },
            }),
            (true, false) => Ok(Kind::Ttl(ttl)),
            (false, false) => Err("Invalid check: TTL must be not set for interval checks".into()),
            (true, true) => Err("Invalid check: TTL must be > 0 for TTL checks".into()),
        }
    }

    /// After how long in the critical state the service is forgotten.
    pub(crate) fn forget_after(&self) -> Result<Option<Duration>, String> {
        let text = self.deregister_critical_service_after.as_deref();
        let after = text.map_or(Ok(Duration::ZERO), duration)?;
        Ok((!after.is_zero()).then_some(after.max(LEAST_FORGET)))
    }
}

/// Go's `time.ParseDuration`: `1h2m3.5s`, with ns, us, µs, ms, s, m, h.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("Request decode failed: time: invalid duration {text:?}");
    let (mut rest, mut total) = (text, 0.0);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end).ok_or_else(bad)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        total += number.parse::<f64>().map_err(|_| bad())? * seconds;
        rest = tail;
    }
    Duration::try_from_secs_f64(total).map_err(|_| bad())
}

/// serde's words for what is wrong, as Go says them where tools look for them.
fn go_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("unknown field `").and_then(|t| t.split_once('`')) {
        Some((field, _)) => format!("json: unknown field {field:?}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{ServiceDefinition, duration};
    use std::time::Duration;

    #[test]
    fn durations_as_go_reads_them() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1h2m3.5s"), Ok(Duration::from_millis(3_723_500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "10", "s", "1x", "-1s", "zz", "1.2.3s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_in_consuls_words() {
        let error = ServiceDefinition::parse(br#"{"Name":"a","Locality":{}}"#).expect_err("newer than 1.8");
        assert_eq!(error, r#"Request decode failed: json: unknown field "Locality""#);
    }
}
