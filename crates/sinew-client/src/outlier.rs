//! Outlier detection: who fails far more often than the others is left out for a while (gRFC A50).
//!
//! The breaker sees runs of failures of one endpoint; an endpoint that fails every third call has none. Once an interval
//! the calls of all endpoints are compared: ejected is whose success rate lies so many standard deviations below the mean
//! (`successRateEjection`), or whose failures exceed a percentage (`failurePercentageEjection`). An ejection lasts the
//! base time, and longer each time it happens again soon; not more than a percentage of the endpoints is ejected, but one
//! in any case.
//!
//! What counts as a failure is what counts for the breaker ([`Verdict`]): an answer of the application's, NOT_FOUND say,
//! is none, and a call given up or shed on purpose is not counted. gRPC counts every status but OK.
//!
//! Limits: rates need calls. An endpoint with few of them in an interval is not judged.

use sinew_core::{
    Rng,
    classify::Verdict,
    service_config::{FailurePercentageEjection, OutlierDetectionConfig, SuccessRateEjection},
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// How the calls of one endpoint have ended since the last look.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    successes: AtomicU64,
    failures: AtomicU64,
}

/// A tally's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

/// Watches the endpoints of one destination.
#[derive(Debug)]
pub(crate) struct Detector {
    config: OutlierDetectionConfig,
    /// By the endpoint's number.
    hosts: BTreeMap<u64, Host>,
}

/// What is remembered of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Host {
    ejected: Option<Instant>,
    /// How often it was ejected, less the intervals that it did well since.
    multiplier: u32,
}

// === impl Tally ===

impl Tally {
    pub(crate) fn count(&self, verdict: Verdict) {
        match verdict {
            Verdict::Success => self.successes.fetch_add(1, Relaxed),
            Verdict::Failure => self.failures.fetch_add(1, Relaxed),
            Verdict::Neutral => return,
        };
    }

    /// The numbers since they were last taken.
    pub(crate) fn take(&self) -> Counts {
        Counts { successes: self.successes.swap(0, Relaxed), failures: self.failures.swap(0, Relaxed) }
    }
}

impl Counts {
    fn volume(self) -> u64 {
        self.successes + self.failures
    }

    /// Of a volume above 0.
    fn success_rate(self) -> f64 {
        self.successes as f64 / self.volume() as f64
    }
}

// === impl Detector ===

impl Detector {
    pub(crate) fn new(config: &OutlierDetectionConfig) -> Self {
        Self { config: config.clone(), hosts: BTreeMap::new() }
    }

    /// Time between looks.
    pub(crate) fn interval(&self) -> Duration {
        self.config.interval
    }

    pub(crate) fn is_ejected(&self, endpoint: u64) -> bool {
        self.hosts.get(&endpoint).is_some_and(|host| host.ejected.is_some())
    }

    /// Judges what these endpoints did in the interval that ends now, and forgets all others. Answers whom it ejected.
    pub(crate) fn look(&mut self, now: Instant, endpoints: &[(u64, Counts)], rng: &dyn Rng) -> Vec<u64> {
        let known = std::mem::take(&mut self.hosts);
        self.hosts = endpoints.iter().map(|(number, _)| (*number, known.get(number).copied().unwrap_or_default())).collect();
        let mut outliers = Vec::new();
        if let Some(config) = self.config.success_rate_ejection {
            self.success_rate(&config, now, endpoints, rng, &mut outliers);
        }
        if let Some(config) = self.config.failure_percentage_ejection {
            self.failure_percentage(&config, now, endpoints, rng, &mut outliers);
        }
        let OutlierDetectionConfig { base_ejection_time: base, max_ejection_time: most, .. } = self.config;
        for host in self.hosts.values_mut() {
            match host.ejected {
                None => host.multiplier = host.multiplier.saturating_sub(1),
                Some(at) if now > at + (base * host.multiplier).min(base.max(most)) => host.ejected = None,
                Some(_) => {}
            }
        }
        outliers
    }

    fn success_rate(
        &mut self,
        config: &SuccessRateEjection,
        now: Instant,
        endpoints: &[(u64, Counts)],
        rng: &dyn Rng,
        outliers: &mut Vec<u64>,
    ) {
        let judged = || endpoints.iter().filter(|(_, counts)| enough(*counts, config.request_volume));
        let rates: Vec<f64> = judged().map(|(_, counts)| counts.success_rate()).collect();
        if rates.len() < config.minimum_hosts as usize || rates.is_empty() {
            return;
        }
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
        let least = mean - variance.sqrt() * f64::from(config.stdev_factor) / 1_000.0;
        for (number, counts) in judged() {
            if self.is_full() {
                return;
            }
            if counts.success_rate() < least && rng.below(100) < config.enforcement_percentage.into() {
                self.eject(*number, now, outliers);
            }
        }
    }

    fn failure_percentage(
        &mut self,
        config: &FailurePercentageEjection,
        now: Instant,
        endpoints: &[(u64, Counts)],
        rng: &dyn Rng,
        outliers: &mut Vec<u64>,
    ) {
        if endpoints.len() < config.minimum_hosts as usize {
            return;
        }
        for (number, counts) in endpoints.iter().filter(|(_, counts)| enough(*counts, config.request_volume)) {
            if self.is_full() {
                return;
            }
            let percentage = 100.0 * counts.failures as f64 / counts.volume() as f64;
            if percentage > config.threshold.into() && rng.below(100) < config.enforcement_percentage.into() {
                self.eject(*number, now, outliers);
            }
        }
    }

    /// Whether more than the allowed share is ejected. Asked before each ejection, so that one is possible always.
    fn is_full(&self) -> bool {
        let ejected = self.hosts.values().filter(|host| host.ejected.is_some()).count();
        ejected * 100 > self.config.max_ejection_percent as usize * self.hosts.len()
    }

    fn eject(&mut self, number: u64, now: Instant, outliers: &mut Vec<u64>) {
        if let Some(host) = self.hosts.get_mut(&number) {
            host.ejected = Some(now);
            host.multiplier += 1;
            outliers.push(number);
        }
    }
}

/// Whether there is something to judge by.
fn enough(counts: Counts, volume: u32) -> bool {
    counts.volume() >= u64::from(volume).max(1)
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;
