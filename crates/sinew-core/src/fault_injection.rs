//! Faults put in on purpose: which calls are delayed or aborted, to see what becomes of those who depend on them.
//!
//! The words are those of gRFC A33 and of Envoy's fault filter. What is unknown or cannot be honoured is refused with its path.

use crate::{
    classify::Code,
    service_config::{MethodName, duration},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::time::Duration;

/// What of a process's outgoing calls is disturbed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultInjection {
    /// Whether callers may ask for a fault by the call's own headers (`x-envoy-fault-…`). Default no.
    pub by_header: bool,
    /// Faults per method; the most specific name wins, as in a service config.
    pub faults: Vec<NamedFault>,
}

/// A fault of the methods it names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedFault {
    /// Which methods.
    pub name: Vec<MethodName>,
    /// Ends calls without asking anybody.
    #[serde(default)]
    pub abort: Option<Abort>,
    /// Makes calls wait first.
    #[serde(default)]
    pub delay: Option<Delay>,
}

/// What may happen to a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fault {
    /// It ends without asking anybody.
    pub abort: Option<Abort>,
    /// It waits first.
    pub delay: Option<Delay>,
}

/// Ends calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abort {
    /// With this status.
    #[serde(deserialize_with = "code")]
    pub code: Code,
    /// How many of them.
    #[serde(default)]
    pub percent: Percent,
}

/// Delays calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// By so long; the call's deadline goes on meanwhile.
    #[serde(deserialize_with = "duration")]
    pub fixed: Duration,
    /// How many of them.
    #[serde(default)]
    pub percent: Percent,
}

/// A share of calls, to a ten-thousandth of a percent. Default 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent {
    millionths: u32,
}

/// Why faults were refused.
#[derive(Debug, thiserror::Error)]
#[error("at {path}: {reason}")]
pub struct FaultError {
    /// Where in the document: `faults[0].abort.code`.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

impl FaultInjection {
    /// Parses and checks JSON.
    pub fn parse(json: &str) -> Result<Self, FaultError> {
        let mut input = serde_json::Deserializer::from_str(json);
        let faults: Self = serde_path_to_error::deserialize(&mut input)
            .map_err(|e| FaultError { path: e.path().to_string(), reason: e.into_inner().to_string() })?;
        input.end().map_err(|e| FaultError { path: "the end".into(), reason: e.to_string() })?;
        for (i, fault) in faults.faults.iter().enumerate() {
            let refuse = |reason: &str| Err(FaultError { path: format!("faults[{i}]"), reason: reason.into() });
            if fault.name.is_empty() || fault.name.iter().any(|n| n.service.is_empty() && !n.method.is_empty()) {
                return refuse("name must name services, methods with their services, or everything ({})");
            }
            if fault.abort.is_none() && fault.delay.is_none() {
                return refuse("has neither abort nor delay");
            }
        }
        Ok(faults)
    }

    /// The fault of the method with this path: its own, else its service's, else everybody's.
    pub fn of(&self, path: &str) -> Option<Fault> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let named = |s: &str, m: &str| self.faults.iter().find(|f| f.name.iter().any(|n| n.service == s && n.method == m));
        let found = named(service, method).or_else(|| named(service, "")).or_else(|| named("", ""))?;
        Some(Fault { abort: found.abort, delay: found.delay })
    }
}

// === impl Percent ===

impl Percent {
    /// 0 to 100.
    pub fn new(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self { millionths: (percent * 10_000.0).round() as u32 })
    }

    /// Whether a call with this random number is among them.
    pub fn hits(self, random: u32) -> bool {
        (u64::from(random) * 1_000_000) >> 32 < u64::from(self.millionths)
    }
}

impl Default for Percent {
    fn default() -> Self {
        Self { millionths: 1_000_000 }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(input)?;
        Self::new(percent).ok_or_else(|| D::Error::custom(format!("{percent} is no percentage; write 0 to 100")))
    }
}

fn code<'de, D: Deserializer<'de>>(input: D) -> Result<Code, D::Error> {
    let name = String::deserialize(input)?;
    let code = Code::from_name(&name).filter(|code| *code != Code::Ok);
    code.ok_or_else(|| D::Error::custom(format!("{name:?} is no status code to fail with; write names such as \"UNAVAILABLE\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_name_wins() {
        let faults = FaultInjection::parse(
            r#"{"faults":[{"name":[{}],"delay":{"fixed":"0.1s","percent":0.5}},
                {"name":[{"service":"a.B","method":"C"}],"abort":{"code":"UNAVAILABLE","percent":10}},
                {"name":[{"service":"a.B"}],"abort":{"code":"INTERNAL"}}]}"#,
        )
        .expect("valid");
        let code = |path| faults.of(path).and_then(|fault| fault.abort).map(|abort| abort.code);
        assert_eq!([code("/a.B/C"), code("/a.B/D"), code("/x.Y/Z")], [Some(Code::Unavailable), Some(Code::Internal), None]);
        let delay = faults.of("/x.Y/Z").and_then(|fault| fault.delay).expect("everybody's");
        assert_eq!((delay.fixed, delay.percent), (Duration::from_millis(100), Percent::new(0.5).expect("a percentage")));
        assert!(!faults.by_header && faults.of("nonsense").is_none());
    }

    #[test]
    fn refusals_name_the_place() {
        for (json, place) in [
            (r#"{"fault":[]}"#, "unknown field `fault`"),
            (r#"{"faults":[{"name":[{}]}]}"#, "faults[0]: has neither"),
            (r#"{"faults":[{"name":[],"abort":{"code":"INTERNAL"}}]}"#, "faults[0]: name must name"),
            (r#"{"faults":[{"name":[{"method":"C"}],"abort":{"code":"INTERNAL"}}]}"#, "faults[0]: name must name"),
            (r#"{"faults":[{"name":[{}],"abort":{"code":"OK"}}]}"#, "faults[0].abort.code"),
            (r#"{"faults":[{"name":[{}],"abort":{"code":"INTERNAL","percent":101}}]}"#, "faults[0].abort.percent"),
            (r#"{"faults":[{"name":[{}],"delay":{"fixed":"1m"}}]}"#, "faults[0].delay.fixed"),
            ("{} {}", "the end"),
        ] {
            let error = FaultInjection::parse(json).expect_err(json).to_string();
            assert!(error.contains(place), "{json}: {error}");
        }
    }

    #[test]
    fn a_percentage_hits_that_many() {
        for (percent, expected) in [(0.0, 0), (0.01, 10), (12.5, 12_500), (100.0, 100_000)] {
            let percent = Percent::new(percent).expect("a percentage");
            // Evenly over all numbers.
            let hit = (0..100_000u64).filter(|n| percent.hits((((2 * n + 1) << 31) / 100_000) as u32)).count();
            assert_eq!(hit, expected);
        }
        assert!(Percent::new(-0.1).is_none() && Percent::new(100.1).is_none() && Percent::new(f64::NAN).is_none());
    }
}
