//! What `bench channel` is to reach. It only reports: times are the machine's, and a shared one is no judge.

use crate::{drive::Runtime, report::Row, rival::Against};

/// Ratios, ours over the peer's: calls a second at least, the others at most.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    calls: Option<f64>,
    cpu: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Bounds {
    /// Those of a row: on one thread, beside these peers, with so many callers.
    pub(crate) fn of(against: Against, runtime: Runtime, callers: usize) -> Self {
        let none = Self::default();
        match (against, runtime, callers) {
            (Against::Tonic, Runtime::CurrentThread, 1) => Self { p50: Some(1.0), cpu: Some(0.8), ..none },
            (Against::Tonic, Runtime::CurrentThread, 32) => Self { calls: Some(1.3), cpu: Some(0.72), p99: Some(0.8), ..none },
            (Against::Tonic, Runtime::CurrentThread, 256) => Self { calls: Some(1.1), cpu: Some(0.75), ..none },
            (Against::Single, Runtime::CurrentThread, _) => Self { calls: Some(1.05), cpu: Some(0.85), ..none },
            (Against::Envoy, Runtime::CurrentThread, 32) => Self { calls: Some(7.0), p50: Some(0.35), ..none },
            _ => none,
        }
    }

    /// In words; nothing without any.
    pub(crate) fn words(&self) -> String {
        let least = self.calls.map(|bound| format!("calls at least {bound}"));
        let most = [("CPU", self.cpu), ("p50", self.p50), ("p99", self.p99)];
        let most = most.into_iter().filter_map(|(what, bound)| Some(format!("{what} at most {}", bound?)));
        least.into_iter().chain(most).collect::<Vec<_>>().join(", ")
    }

    /// Whether the row keeps to all of them.
    pub(crate) fn held(&self, row: &Row) -> bool {
        let most = [(self.cpu, row.cpu_ratio), (self.p50, row.p50_ratio), (self.p99, row.p99_ratio)];
        self.calls.is_none_or(|bound| row.throughput_ratio >= bound)
            && most.into_iter().all(|(bound, ratio)| bound.is_none_or(|bound| ratio <= bound))
    }
}
