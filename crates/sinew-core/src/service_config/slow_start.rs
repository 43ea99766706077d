//! Slow start in a service config: `sinewSlowStart`. gRPC has no name for it; the words are Envoy's.

use super::duration;
use serde::Deserialize;
use std::time::Duration;

/// How an endpoint that has just come is spared.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowStartConfig {
    /// How long it takes until it has its full share: caches fill, code is compiled. Up to an hour.
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
    /// How the share grows: 1 (the default) evenly, more slowly at first below 1, and faster above.
    #[serde(default = "one")]
    pub aggression: f64,
    /// The least share, in percent of the full one: 1 to 100. Default 10.
    #[serde(default = "ten")]
    pub min_weight_percent: u8,
}

fn one() -> f64 {
    1.0
}

fn ten() -> u8 {
    10
}

const LONGEST: Duration = Duration::from_secs(3_600);

impl SlowStartConfig {
    /// What share of its calls an endpoint of this age has, 0 to 1.
    pub fn share(&self, age: Duration) -> f64 {
        let grown = (age.as_secs_f64() / self.window.as_secs_f64()).min(1.0).powf(1.0 / self.aggression);
        grown.max(f64::from(self.min_weight_percent) / 100.0)
    }

    /// What is wrong, if anything is: the field, and the rule that it breaks.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let rules = [
            (!self.window.is_zero() && self.window <= LONGEST, "window", "must be longer than 0, and an hour at most"),
            ((0.01..=100.0).contains(&self.aggression), "aggression", "must be 0.01 to 100"),
            ((1..=100).contains(&self.min_weight_percent), "minWeightPercent", "must be 1 to 100"),
        ];
        rules.into_iter().find(|(holds, ..)| !holds).map_or(Ok(()), |(_, field, rule)| Err((field, rule)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_with_age() {
        let even = SlowStartConfig { window: Duration::from_secs(10), aggression: 1.0, min_weight_percent: 10 };
        let shares = |config: SlowStartConfig| [0, 5, 10, 60].map(|age| config.share(Duration::from_secs(age)));
        assert_eq!(shares(even), [0.1, 0.5, 1.0, 1.0]);
        assert_eq!(shares(SlowStartConfig { aggression: 0.5, ..even }), [0.1, 0.25, 1.0, 1.0]);
    }
}
