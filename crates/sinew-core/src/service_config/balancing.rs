//! The balancing policies of a service config, and what each can be told.

use super::{duration, maybe_duration};
use http::HeaderName;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::time::Duration;

/// A balancing policy, as gRPC names it; those that gRPC has no name for begin with `sinew_`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Balancing {
    /// One after the other.
    RoundRobin {},
    /// The less loaded of two taken at random (gRFC A48).
    LeastRequestExperimental {
        /// How many are compared.
        #[serde(rename = "choiceCount", default = "two")]
        choice_count: u32,
    },
    /// The same endpoint for the same value of a header, by consistent hashing (gRFC A42, A76).
    RingHashExperimental(RingHashConfig),
    /// The quicker of two taken at random: peak EWMA of latency, times calls that wait. What holds without any policy.
    SinewPeakEwma {
        /// How long it takes until what was seen has faded to 1/e. Default 1 s.
        #[serde(default, deserialize_with = "maybe_duration")]
        decay: Option<Duration>,
    },
    /// One after the other, as often as the endpoints' registered weights say.
    SinewWeightedRoundRobin {},
    /// Any, by the endpoints' registered weights.
    SinewRandom {},
    /// The same endpoint for the same value of a header, in equal shares (Eisenbud et al. 2016).
    SinewMaglev(MaglevConfig),
    /// Another policy over so many of the endpoints, which each client takes at random and keeps (gRFC A68).
    RandomSubsettingExperimental(RandomSubsettingConfig),
    /// Another policy, without the endpoints that fail far more often than the rest (gRFC A50).
    OutlierDetectionExperimental(OutlierDetectionConfig),
}

/// Settings of `outlier_detection_experimental`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutlierDetectionConfig {
    /// Time between looks. Default 10 s.
    #[serde(default = "interval", deserialize_with = "duration")]
    pub interval: Duration,
    /// How long the first ejection lasts; each further one as much longer. Default 30 s.
    #[serde(default = "base_ejection_time", deserialize_with = "duration")]
    pub base_ejection_time: Duration,
    /// How long an ejection lasts at most, or the base time if that is longer. Default 300 s.
    #[serde(default = "max_ejection_time", deserialize_with = "duration")]
    pub max_ejection_time: Duration,
    /// Ejections stop when more than so many percent of the endpoints are ejected; one always may be. Default 10.
    #[serde(default = "ten")]
    pub max_ejection_percent: u32,
    /// Ejects those whose success rate is far below the mean.
    #[serde(default)]
    pub success_rate_ejection: Option<SuccessRateEjection>,
    /// Ejects those that fail more often than a percentage.
    #[serde(default)]
    pub failure_percentage_ejection: Option<FailurePercentageEjection>,
    /// The policy that spreads calls over the others.
    pub child_policy: Vec<Balancing>,
}

/// Ejection by success rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SuccessRateEjection {
    /// So many thousandths of the standard deviation below the mean. Default 1,900.
    pub stdev_factor: u32,
    /// How many outliers of a hundred are ejected. Default 100.
    pub enforcement_percentage: u32,
    /// Only when so many endpoints have calls enough. Default 5.
    pub minimum_hosts: u32,
    /// Calls in an interval that are enough. Default 100.
    pub request_volume: u32,
}

/// Ejection by failure percentage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FailurePercentageEjection {
    /// More failures of a hundred calls than this. Default 85.
    pub threshold: u32,
    /// How many outliers of a hundred are ejected. Default 100.
    pub enforcement_percentage: u32,
    /// Only when there are so many endpoints. Default 5.
    pub minimum_hosts: u32,
    /// Calls in an interval that are enough to judge by. Default 50.
    pub request_volume: u32,
}

impl Default for SuccessRateEjection {
    fn default() -> Self {
        Self { stdev_factor: 1_900, enforcement_percentage: 100, minimum_hosts: 5, request_volume: 100 }
    }
}

impl Default for FailurePercentageEjection {
    fn default() -> Self {
        Self { threshold: 85, enforcement_percentage: 100, minimum_hosts: 5, request_volume: 50 }
    }
}

impl OutlierDetectionConfig {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let percent = |value: u32| value <= 100;
        let rate = self.success_rate_ejection.unwrap_or_default();
        let failure = self.failure_percentage_ejection.unwrap_or_default();
        let rules = [
            (!self.interval.is_zero(), "interval", "must be longer than 0"),
            (percent(self.max_ejection_percent), "maxEjectionPercent", "must be 0 to 100"),
            (percent(rate.enforcement_percentage), "successRateEjection.enforcementPercentage", "must be 0 to 100"),
            (percent(failure.threshold), "failurePercentageEjection.threshold", "must be 0 to 100"),
            (percent(failure.enforcement_percentage), "failurePercentageEjection.enforcementPercentage", "must be 0 to 100"),
        ];
        rules.into_iter().find(|(holds, ..)| !holds).map_or(Ok(()), |(_, field, rule)| Err((field, rule)))
    }
}

fn interval() -> Duration {
    Duration::from_secs(10)
}

fn base_ejection_time() -> Duration {
    Duration::from_secs(30)
}

fn max_ejection_time() -> Duration {
    Duration::from_secs(300)
}

fn ten() -> u32 {
    10
}

/// Settings of `random_subsetting_experimental`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RandomSubsettingConfig {
    /// How many endpoints a client uses, at least 1. Fewer than some 20 spread a few clients' calls unevenly.
    pub subset_size: u32,
    /// The policy that spreads calls over them.
    pub child_policy: Vec<Balancing>,
}

/// Which of a call's bytes decide where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// All values of this header (gRFC A76).
    Header(HeaderName),
    /// The field of the request message with this number.
    Field(u32),
}

/// Settings of `ring_hash_experimental`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RingHashConfig {
    /// The ring has at least so many points. Default 1,024.
    #[serde(default = "smallest_ring")]
    pub min_ring_size: u32,
    /// And at most so many, as long as each endpoint has one. Default 4,096, at most 65,536.
    #[serde(default = "largest_ring")]
    pub max_ring_size: u32,
    /// Calls with the same value of this header go to the same endpoint, those without it to any.
    #[serde(default, deserialize_with = "header_name")]
    pub request_hash_header: Option<HeaderName>,
    /// The same for a field of the request message, by its number: of those at its top level, and not of a streamed request.
    #[serde(default)]
    pub request_hash_field: Option<u32>,
}

/// Settings of `sinew_maglev`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaglevConfig {
    /// Places in the table: a prime, 3 to 5,000,011; a hundred times the endpoints and more spread evenly. Default 65,537.
    #[serde(default = "maglev_table")]
    pub table_size: u32,
    /// Calls with the same value of this header go to the same endpoint, those without it to any.
    #[serde(default, deserialize_with = "header_name")]
    pub request_hash_header: Option<HeaderName>,
    /// The same for a field of the request message, by its number: of those at its top level, and not of a streamed request.
    #[serde(default)]
    pub request_hash_field: Option<u32>,
}

impl RingHashConfig {
    /// What decides.
    pub fn key(&self) -> Option<HashKey> {
        key(self.request_hash_header.as_ref(), self.request_hash_field)
    }
}

impl MaglevConfig {
    /// What decides.
    pub fn key(&self) -> Option<HashKey> {
        key(self.request_hash_header.as_ref(), self.request_hash_field)
    }
}

/// The one of both that is given.
fn key(header: Option<&HeaderName>, field: Option<u32>) -> Option<HashKey> {
    match (header, field) {
        (Some(header), None) => Some(HashKey::Header(header.clone())),
        // Protobuf's numbers.
        (None, Some(field @ 1..=0x1fff_ffff)) => Some(HashKey::Field(field)),
        _ => None,
    }
}

const KEY_RULE: &str = "must be a header, or requestHashField the number of a field of the request, and not both";

fn two() -> u32 {
    2
}

fn smallest_ring() -> u32 {
    1_024
}

fn largest_ring() -> u32 {
    4_096
}

fn maglev_table() -> u32 {
    65_537
}

/// Guardrails of Envoy's table and of ours.
const LARGEST_TABLE: u32 = 5_000_011;
const LARGEST_RING: u32 = 1 << 16;

impl Balancing {
    /// The policy within, of one that only decides which endpoints there are.
    pub fn child(&self) -> Option<&Self> {
        match self {
            Self::OutlierDetectionExperimental(config) => config.child_policy.first(),
            Self::RandomSubsettingExperimental(config) => config.child_policy.first(),
            _ => None,
        }
    }

    fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// What is wrong, if anything is: the field, and the rule that it breaks.
    pub(super) fn check(&self) -> Result<(), (String, &'static str)> {
        let refuse = |field: &str, rule| Err((field.to_owned(), rule));
        let (name, children) = match self {
            Self::OutlierDetectionExperimental(config) => ("outlier_detection_experimental", &config.child_policy),
            Self::RandomSubsettingExperimental(config) => ("random_subsetting_experimental", &config.child_policy),
            _ => return self.check_leaf(),
        };
        let of = |field: &str| format!("{name}.{field}");
        match self {
            Self::OutlierDetectionExperimental(config) => config.check().map_err(|(field, rule)| (of(field), rule))?,
            Self::RandomSubsettingExperimental(config) if config.subset_size == 0 => {
                return refuse(&of("subsetSize"), "must be at least 1");
            }
            _ => {}
        }
        if children.is_empty() {
            return refuse(&of("childPolicy"), "must name a policy");
        }
        for (i, child) in children.iter().enumerate() {
            child.check().map_err(|(field, rule)| (of(&format!("childPolicy[{i}].{field}")), rule))?;
            if std::iter::successors(Some(child), |child| child.child()).any(|within| within.same_kind(self)) {
                return refuse(&of(&format!("childPolicy[{i}]")), "must not be the same once more");
            }
        }
        Ok(())
    }

    fn check_leaf(&self) -> Result<(), (String, &'static str)> {
        let refuse = |field: &str, rule| Err((field.to_owned(), rule));
        match self {
            Self::LeastRequestExperimental { choice_count } if *choice_count < 2 => {
                refuse("least_request_experimental.choiceCount", "must be at least 2")
            }
            Self::RingHashExperimental(ring) if ring.key().is_none() => {
                refuse("ring_hash_experimental.requestHashHeader", KEY_RULE)
            }
            Self::SinewMaglev(maglev) if maglev.key().is_none() => refuse("sinew_maglev.requestHashHeader", KEY_RULE),
            Self::RingHashExperimental(ring) if !(1..=LARGEST_RING).contains(&ring.max_ring_size) => {
                refuse("ring_hash_experimental.maxRingSize", "must be 1 to 65536")
            }
            Self::RingHashExperimental(ring) if !(1..=ring.max_ring_size).contains(&ring.min_ring_size) => {
                refuse("ring_hash_experimental.minRingSize", "must be 1 to maxRingSize")
            }
            Self::SinewPeakEwma { decay: Some(decay) } if !(MS..=DAY).contains(decay) => {
                refuse("sinew_peak_ewma.decay", "must be 1 ms to a day")
            }
            Self::SinewMaglev(MaglevConfig { table_size, .. })
                if !(3..=LARGEST_TABLE).contains(table_size) || !prime(*table_size) =>
            {
                refuse("sinew_maglev.tableSize", "must be a prime, 3 to 5000011")
            }
            _ => Ok(()),
        }
    }
}

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

fn prime(n: u32) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// A header that hashing may look at: gRPC's binary ones are left out, as gRFC A76 has it.
fn header_name<'de, D: Deserializer<'de>>(input: D) -> Result<Option<HeaderName>, D::Error> {
    let text = String::deserialize(input)?;
    let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|name| !name.as_str().ends_with("-bin"));
    name.map(Some).ok_or_else(|| D::Error::custom(format!("{text:?} is no name of a text header")))
}
