//! Counters and fixed-bucket histograms made of atomics.
//!
//! Metrics libraries look a series up, or take a lock, at every record. Here a caller resolves its series once, keeps
//! the `Arc`, and records with a handful of relaxed atomic adds; sinew-telemetry reads them when somebody scrapes.

use crate::classify::Code;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Upper bounds of the latency buckets, in microseconds: 1-2.5-5 steps from 100 µs to 10 s, as dashboards expect.
pub const BUCKETS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// A latency histogram with the buckets of [`BUCKETS_US`] and one above them.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// Counts per bucket (not cumulative) and the sum in microseconds.
    pub fn read(&self) -> ([u64; BUCKETS_US.len() + 1], u64) {
        (std::array::from_fn(|i| self.buckets.get(i).map_or(0, |b| b.load(Relaxed))), self.sum_us.load(Relaxed))
    }
}

/// Which end of a call, or one attempt of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The caller: one record per call.
    Client,
    /// The caller: one record per attempt.
    Attempt,
    /// The callee.
    Server,
}

/// Calls of one method on one edge.
#[derive(Debug, Default)]
pub struct CallStats {
    codes: [AtomicU64; 17],
    /// From start to end of the call.
    pub latency: Histogram,
    /// Calls under way.
    pub in_flight: AtomicI64,
}

impl CallStats {
    /// Counts one ended call.
    pub fn record(&self, code: Code, duration: Duration) {
        if let Some(count) = self.codes.get(code as usize) {
            count.fetch_add(1, Relaxed);
        }
        self.latency.record(duration);
    }

    /// Ended calls with this code.
    pub fn count(&self, code: Code) -> u64 {
        self.codes.get(code as usize).map_or(0, |c| c.load(Relaxed))
    }
}

/// Names one series of calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey {
    /// Which end.
    pub side: Side,
    /// The mesh name of the other side for clients, of ourselves for servers.
    pub service: Arc<str>,
    /// gRPC method path, `/shop.order.v1.OrderService/PlaceOrder`.
    pub method: Arc<str>,
}

/// A number with labels: gauges and counters that are not calls.
pub type Labels = Vec<(&'static str, String)>;

/// Every series of one process.
#[derive(Debug, Default)]
pub struct Registry {
    calls: Mutex<BTreeMap<CallKey, Arc<CallStats>>>,
    gauges: Mutex<BTreeMap<(&'static str, Labels), Arc<AtomicI64>>>,
    counters: Mutex<BTreeMap<(&'static str, Labels), Arc<AtomicU64>>>,
}

impl Registry {
    /// The process's registry: metrics are per process by nature.
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<Registry> = OnceLock::new();
        GLOBAL.get_or_init(Self::default)
    }

    /// The series of one method on one edge; resolve once and keep it.
    pub fn calls(&self, key: CallKey) -> Arc<CallStats> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }

    /// A gauge; names end in the unit, without prefix: `endpoints`, `breaker_open`.
    pub fn gauge(&self, name: &'static str, labels: Labels) -> Arc<AtomicI64> {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).entry((name, labels)).or_default().clone()
    }

    /// A counter; names end in `_total`.
    pub fn counter(&self, name: &'static str, labels: Labels) -> Arc<AtomicU64> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).entry((name, labels)).or_default().clone()
    }

    /// All call series, in order of key.
    pub fn all_calls(&self) -> Vec<(CallKey, Arc<CallStats>)> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// All gauges, in order of name.
    pub fn all_gauges(&self) -> Vec<(&'static str, Labels, i64)> {
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.iter().map(|((name, labels), v)| (*name, labels.clone(), v.load(Relaxed))).collect()
    }

    /// All counters, in order of name.
    pub fn all_counters(&self) -> Vec<(&'static str, Labels, u64)> {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().map(|((name, labels), v)| (*name, labels.clone(), v.load(Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS_US, Histogram};
    use std::time::Duration;

    #[test]
    fn bounds_are_inclusive_and_the_last_bucket_takes_the_rest() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(100));
        histogram.record(Duration::from_micros(101));
        histogram.record(Duration::from_secs(60));
        let (buckets, sum) = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[BUCKETS_US.len()]), (1, 1, 1));
        assert_eq!(sum, 201 + 60_000_000);
    }
}
