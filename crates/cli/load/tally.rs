//! What became of every order, counted.

use super::shopper::{Accepted, Ended, Placed};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write, time::Duration};

/// Latencies from 1 µs to 10 minutes, three digits exact.
const LONGEST: u64 = 600_000_000;

/// Causes of failure that are told apart; the rest are counted together.
const CAUSES: usize = 20;

/// Counts.
#[derive(Debug)]
pub(super) struct Tally {
    latency: Histogram<u64>,
    sent: u64,
    retries: u64,
    not_sent: u64,
    failures: BTreeMap<String, u64>,
    accepted: Vec<Accepted>,
    outcomes: BTreeMap<String, u64>,
    lost: u64,
}

/// All of it, for people and programs.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    seconds: f64,
    sent: u64,
    /// Due, but not sent: too many were under way.
    not_sent: u64,
    accepted: u64,
    failed: u64,
    retries: u64,
    failures: BTreeMap<String, u64>,
    /// From the moment a request was due to the last answer it took, in milliseconds.
    latency_ms: BTreeMap<&'static str, f64>,
    outcomes: BTreeMap<String, u64>,
    /// Accepted orders that had not ended in time.
    not_ended: u64,
    /// Accepted orders that the service does not know.
    lost: u64,
}

impl Default for Tally {
    #[expect(clippy::expect_used, reason = "constants that the library takes: a test makes one")]
    fn default() -> Self {
        Self {
            latency: Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds"),
            sent: 0,
            retries: 0,
            not_sent: 0,
            failures: BTreeMap::new(),
            accepted: Vec::new(),
            outcomes: BTreeMap::new(),
            lost: 0,
        }
    }
}

impl Tally {
    /// An order was placed, or was not to be.
    pub(super) fn placed(&mut self, placed: Placed, latency: Duration) {
        self.sent += 1;
        self.retries += u64::from(placed.retries);
        self.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST).max(1));
        match placed.order {
            Ok(accepted) => self.accepted.push(accepted),
            Err(cause) => {
                let known = self.failures.contains_key(&cause) || self.failures.len() < CAUSES;
                *self.failures.entry(if known { cause } else { "others".to_owned() }).or_default() += 1;
            }
        }
    }

    /// An order was due, and too many were under way.
    pub(super) fn not_sent(&mut self) {
        self.not_sent += 1;
    }

    /// The accepted orders.
    pub(super) fn open(&self) -> Vec<Accepted> {
        self.accepted.clone()
    }

    /// One of them has ended, or was given up.
    pub(super) fn ended(&mut self, ended: Ended) {
        match ended {
            // Counted by what is missing in the end.
            Ended::NotYet => {}
            Ended::Lost => self.lost += 1,
            Ended::As(outcome) => *self.outcomes.entry(outcome).or_default() += 1,
        }
    }

    /// Where it stands, in one line.
    pub(super) fn line(&self, elapsed: Duration) -> String {
        let failed: u64 = self.failures.values().sum();
        let p99 = self.latency.value_at_quantile(0.99) as f64 / 1_000.0;
        format!(
            "{:4} s  {} placed  {failed} failed  {} retries  p99 {p99:.1} ms",
            elapsed.as_secs(),
            self.accepted.len(),
            self.retries
        )
    }

    pub(super) fn summary(&self, seconds: f64) -> Summary {
        let ms = |us: u64| us as f64 / 1_000.0;
        let quantile = |q| ms(self.latency.value_at_quantile(q));
        let latency_ms = [
            ("p50", quantile(0.5)),
            ("p90", quantile(0.9)),
            ("p99", quantile(0.99)),
            ("p99.9", quantile(0.999)),
            ("max", ms(self.latency.max())),
        ];
        Summary {
            seconds: (seconds * 10.0).round() / 10.0,
            sent: self.sent,
            not_sent: self.not_sent,
            accepted: self.accepted.len() as u64,
            failed: self.failures.values().sum(),
            retries: self.retries,
            failures: self.failures.clone(),
            latency_ms: latency_ms.into(),
            outcomes: self.outcomes.clone(),
            not_ended: self.accepted.len() as u64 - self.outcomes.values().sum::<u64>() - self.lost,
            lost: self.lost,
        }
    }
}

impl Summary {
    /// Nothing failed, and every accepted order has ended.
    pub(super) fn is_good(&self) -> bool {
        [self.failed, self.not_sent, self.not_ended, self.lost].iter().all(|n| *n == 0) && self.accepted > 0
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} orders in {} s: {} accepted, {} failed, {} not sent, {} retries\n",
            self.sent, self.seconds, self.accepted, self.failed, self.not_sent, self.retries
        );
        let latency: Vec<_> = ["p50", "p90", "p99", "p99.9", "max"]
            .iter()
            .filter_map(|q| Some(format!("{q} {:.1}", self.latency_ms.get(q)?)))
            .collect();
        writeln!(text, "latency in ms: {}", latency.join("  ")).ok();
        for (outcome, count) in &self.outcomes {
            writeln!(text, "{count:8}  {outcome}").ok();
        }
        for (count, what) in [(self.not_ended, "not ended in time"), (self.lost, "accepted and lost")] {
            if count > 0 {
                writeln!(text, "{count:8}  {what}").ok();
            }
        }
        for (cause, count) in &self.failures {
            writeln!(text, "{count:8}  failed: {cause}").ok();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(order: Result<&str, &str>) -> Placed {
        let accepted = |id: &str| Accepted { id: id.to_owned(), customer: "c".to_owned() };
        Placed { order: order.map(accepted).map_err(str::to_owned), retries: 1 }
    }

    #[test]
    fn every_order_is_accounted_for() {
        let mut tally = Tally::default();
        for (order, ms) in [(Ok("1"), 1), (Ok("2"), 2), (Ok("3"), 3), (Err("503"), 500)] {
            tally.placed(placed(order), Duration::from_millis(ms));
        }
        tally.ended(Ended::As("completed".into()));
        tally.ended(Ended::Lost);
        let summary = tally.summary(10.0);
        assert_eq!((summary.sent, summary.accepted, summary.failed, summary.retries), (4, 3, 1, 4));
        // The one that nobody asked about counts as not ended: Ctrl-C makes nothing good.
        assert_eq!((summary.not_ended, summary.lost, summary.is_good()), (1, 1, false));
        assert!((499.0..501.0).contains(&summary.latency_ms["max"]) && summary.text().contains("failed: 503"));
    }

    #[test]
    fn only_a_flawless_run_is_good() {
        let mut tally = Tally::default();
        tally.placed(placed(Ok("1")), Duration::from_millis(1));
        assert!(!tally.summary(1.0).is_good());
        tally.ended(Ended::As("payment_declined".into()));
        assert!(tally.summary(1.0).is_good());
        tally.not_sent();
        assert!(!tally.summary(1.0).is_good());
    }
}
