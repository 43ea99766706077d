//! By hand for what each rule means, and against a second telling of gRFC A50 over random histories.

use super::{Counts, Detector};
use sinew_core::{Rng, SharedRng, service_config::OutlierDetectionConfig};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

fn config(fields: &str) -> OutlierDetectionConfig {
    serde_json::from_str(&format!(r#"{{"childPolicy":[{{"round_robin":{{}}}}],{fields}}}"#)).expect(fields)
}

/// Endpoints 0, 1, … with so many successes and failures.
fn counts<const N: usize>(of: [(u64, u64); N]) -> Vec<(u64, Counts)> {
    (0..).zip(of.map(|(successes, failures)| Counts { successes, failures })).collect()
}

fn rng() -> SharedRng {
    SharedRng::seeded(1)
}

const RATE: &str = r#""maxEjectionPercent":50,"successRateEjection":{}"#;
const PERCENTAGE: &str = r#""maxEjectionPercent":50,"failurePercentageEjection":{"threshold":50}"#;

#[test]
fn one_that_fails_a_third_of_its_calls_among_five_that_do_not_is_an_outlier() {
    let mut detector = Detector::new(&config(RATE));
    let now = Instant::now();
    let calls = counts([(200, 0), (199, 1), (134, 66), (200, 0), (198, 2), (200, 0)]);
    assert_eq!(detector.look(now, &calls, &rng()), [2]);
    assert!(detector.is_ejected(2) && !detector.is_ejected(1));
}

#[test]
fn few_calls_and_few_endpoints_are_not_judged() {
    let now = Instant::now();
    let mut detector = Detector::new(&config(RATE));
    let few_calls = counts([(99, 0), (99, 0), (9, 90), (99, 0), (99, 0), (99, 0)]);
    assert!(detector.look(now, &few_calls, &rng()).is_empty());
    let few_endpoints = counts([(200, 0), (100, 100), (200, 0), (200, 0)]);
    assert!(detector.look(now, &few_endpoints, &rng()).is_empty());
    let mut detector = Detector::new(&config(PERCENTAGE));
    assert!(detector.look(now, &counts([(0, 100), (0, 100), (0, 100), (0, 100)]), &rng()).is_empty());
    assert!(detector.look(now, &counts([(0, 49), (0, 49), (0, 49), (0, 49), (0, 49)]), &rng()).is_empty());
}

#[test]
fn one_may_always_be_ejected_and_no_more_than_are_allowed() {
    let now = Instant::now();
    let all_fail = counts([(0, 100); 10]);
    let mut detector = Detector::new(&config(r#""maxEjectionPercent":0,"failurePercentageEjection":{}"#));
    assert_eq!(detector.look(now, &all_fail, &rng()), [0]);
    let mut detector = Detector::new(&config(r#""maxEjectionPercent":30,"failurePercentageEjection":{}"#));
    assert_eq!(detector.look(now, &all_fail, &rng()), [0, 1, 2, 3], "asked before each ejection: more than 30 % stops it");
}

#[test]
fn an_ejection_lasts_longer_each_time_and_up_to_a_limit() {
    let mut detector =
        Detector::new(&config(r#""baseEjectionTime":"30s","maxEjectionTime":"70s","failurePercentageEjection":{"threshold":50}"#));
    let (bad, well) = (counts([(100, 0), (100, 0), (100, 0), (100, 0), (0, 100)]), counts([(100, 0); 5]));
    let mut now = Instant::now();
    for times in [30, 60, 70, 70] {
        assert_eq!(detector.look(now, &bad, &rng()), [4]);
        now += Duration::from_secs(times);
        detector.look(now, &well, &rng());
        assert!(detector.is_ejected(4), "for all of {times} s");
        now += Duration::from_millis(1);
        detector.look(now, &well, &rng());
        assert!(!detector.is_ejected(4), "after {times} s");
    }
    for _ in 0..4 {
        detector.look(now, &well, &rng());
    }
    detector.look(now, &bad, &rng());
    now += Duration::from_millis(30_001);
    detector.look(now, &well, &rng());
    assert!(!detector.is_ejected(4), "intervals without an ejection are forgiven one by one");
}

#[test]
fn one_that_is_gone_is_forgotten() {
    let mut detector = Detector::new(&config(PERCENTAGE));
    let now = Instant::now();
    let mut calls = counts([(100, 0), (100, 0), (100, 0), (100, 0), (0, 100)]);
    detector.look(now, &calls, &rng());
    calls.pop();
    detector.look(now, &calls, &rng());
    assert!(!detector.is_ejected(4));
}

// === the second telling ===

/// gRFC A50, sentence by sentence, as plainly as can be.
#[derive(Default)]
struct Model {
    /// "A map with keys that are addresses".
    map: HashMap<u64, Entry>,
}

#[derive(Default, Clone)]
struct Entry {
    bucket: Counts,
    timestamp: Option<Instant>,
    multiplier: u32,
}

impl Model {
    fn timer(&mut self, config: &OutlierDetectionConfig, now: Instant, addresses: &[(u64, Counts)], rng: &dyn Rng) {
        self.map.retain(|address, _| addresses.iter().any(|(a, _)| a == address));
        for (address, counts) in addresses {
            self.map.entry(*address).or_default().bucket = *counts;
        }
        let order: Vec<u64> = addresses.iter().map(|(address, _)| *address).collect();
        let total = |entry: &Entry| entry.bucket.successes + entry.bucket.failures;
        if let Some(rate) = config.success_rate_ejection {
            let volume = |entry: &Entry| total(entry) >= u64::from(rate.request_volume) && total(entry) > 0;
            let fraction = |entry: &Entry| entry.bucket.successes as f64 / total(entry) as f64;
            let fractions: Vec<f64> = order.iter().map(|a| &self.map[a]).filter(|e| volume(e)).map(fraction).collect();
            if fractions.len() >= rate.minimum_hosts as usize && !fractions.is_empty() {
                let n = fractions.len() as f64;
                let mean = fractions.iter().sum::<f64>() / n;
                let stdev = (fractions.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
                for address in &order {
                    if self.percentage_ejected() > f64::from(config.max_ejection_percent) {
                        break;
                    }
                    let entry = &self.map[address];
                    let outlier = volume(entry) && fraction(entry) < mean - stdev * f64::from(rate.stdev_factor) / 1_000.0;
                    if outlier && rng.below(100) < u64::from(rate.enforcement_percentage) {
                        self.eject(*address, now);
                    }
                }
            }
        }
        if let Some(failure) = config.failure_percentage_ejection
            && order.len() >= failure.minimum_hosts as usize
        {
            for address in &order {
                if self.percentage_ejected() > f64::from(config.max_ejection_percent) {
                    break;
                }
                let entry = &self.map[address];
                if total(entry) < u64::from(failure.request_volume) || total(entry) == 0 {
                    continue;
                }
                let percentage = 100.0 * entry.bucket.failures as f64 / total(entry) as f64;
                if percentage > f64::from(failure.threshold) && rng.below(100) < u64::from(failure.enforcement_percentage) {
                    self.eject(*address, now);
                }
            }
        }
        for entry in self.map.values_mut() {
            if let Some(timestamp) = entry.timestamp {
                let longest = config.base_ejection_time.max(config.max_ejection_time);
                if now > timestamp + (config.base_ejection_time * entry.multiplier).min(longest) {
                    entry.timestamp = None;
                }
            } else if entry.multiplier > 0 {
                entry.multiplier -= 1;
            }
        }
    }

    fn percentage_ejected(&self) -> f64 {
        100.0 * self.map.values().filter(|entry| entry.timestamp.is_some()).count() as f64 / self.map.len() as f64
    }

    fn eject(&mut self, address: u64, now: Instant) {
        let entry = self.map.get_mut(&address).expect("one of them");
        entry.timestamp = Some(now);
        entry.multiplier += 1;
    }
}

/// A config of random settings.
fn random_config(rng: &dyn Rng) -> OutlierDetectionConfig {
    let pick = |values: &[u32]| values[rng.below(values.len() as u64) as usize];
    let text = format!(
        r#""baseEjectionTime":"{}s","maxEjectionTime":"{}s","maxEjectionPercent":{}"#,
        pick(&[0, 5, 30]),
        pick(&[0, 20, 300]),
        pick(&[0, 10, 34, 50, 100])
    );
    let rate = format!(
        r#","successRateEjection":{{"stdevFactor":{},"enforcementPercentage":{},"minimumHosts":{},"requestVolume":{}}}"#,
        pick(&[0, 500, 1_000, 1_900]),
        pick(&[0, 50, 100]),
        pick(&[0, 1, 3, 5]),
        pick(&[0, 1, 10, 100])
    );
    let failure = format!(
        r#","failurePercentageEjection":{{"threshold":{},"enforcementPercentage":{},"minimumHosts":{},"requestVolume":{}}}"#,
        pick(&[0, 30, 85, 100]),
        pick(&[0, 50, 100]),
        pick(&[0, 1, 3, 5]),
        pick(&[0, 1, 10, 100])
    );
    let which = pick(&[1, 2, 3]);
    let part = |bit: u32, text: String| if which & bit > 0 { text } else { String::new() };
    config(&(text + &part(1, rate) + &part(2, failure)))
}

/// 100,000 histories of up to eight looks at up to eight endpoints that come, go, and fail as they please.
#[test]
fn every_history_ends_as_grfc_a50_says() {
    let (mut ejected, mut returned) = (0u64, 0u64);
    let mut configs = Vec::new();
    let random = SharedRng::seeded(50);
    configs.resize_with(2_000, || random_config(&random));
    for history in 0..100_000u64 {
        let config = &configs[history as usize % configs.len()];
        let (mut detector, mut model) = (Detector::new(config), Model::default());
        // Both draw the same numbers.
        let (ours, theirs) = (SharedRng::seeded(history), SharedRng::seeded(history));
        let mut now = Instant::now();
        for _ in 0..1 + random.below(8) {
            let mut calls = Vec::new();
            for endpoint in 0..8 {
                if random.below(8) > 0 {
                    let total = [0, 1, 10, 100, 200][random.below(5) as usize];
                    let failures = if random.below(3) == 0 { random.below(total + 1) } else { 0 };
                    calls.push((endpoint, Counts { successes: total - failures, failures }));
                }
            }
            let before: Vec<_> = calls.iter().map(|(endpoint, _)| detector.is_ejected(*endpoint)).collect();
            detector.look(now, &calls, &ours);
            model.timer(config, now, &calls, &theirs);
            for ((endpoint, _), before) in calls.iter().zip(before) {
                let (is, should) = (detector.is_ejected(*endpoint), model.map[endpoint].timestamp.is_some());
                assert_eq!(is, should, "history {history}, endpoint {endpoint} of {calls:?} by {config:?}");
                assert_eq!(detector.hosts[endpoint].multiplier, model.map[endpoint].multiplier, "history {history}");
                ejected += u64::from(is && !before);
                returned += u64::from(before && !is);
            }
            now += Duration::from_secs(random.below(20));
        }
    }
    assert!(ejected > 10_000 && returned > 1_000, "{ejected} ejections and {returned} returns are too few to tell");
}
