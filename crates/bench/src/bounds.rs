//! What `bench channel` is to reach. It only reports: times are the machine's, and a shared one is no judge.

use crate::{drive::Runtime, report::Row, rival::Against};

/// Of the memory that a sidecar adds to a process, what Sinew may.
pub(crate) const MEMORY: f64 = 0.05;

/// Ratios, ours over the peer's: calls a second at least, the others at most.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    calls: Option<f64>,
    cpu: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Bounds {
    /// Those of a row. They are set for a client on one thread, beside a peer over as many endpoints as here.
    pub(crate) fn of(against: Against, endpoints: u16, runtime: Runtime, callers: usize) -> Self {
        let none = Self::default();
        if runtime != Runtime::CurrentThread {
            return none;
        }
        match (against, endpoints, callers) {
            (Against::Tonic, 3, 1) => Self { p50: Some(1.0), cpu: Some(0.8), ..none },
            (Against::Tonic, 3, 32) => Self { calls: Some(1.3), cpu: Some(0.72), p99: Some(0.8), ..none },
            (Against::Tonic, 3, 256) => Self { calls: Some(1.1), cpu: Some(0.75), ..none },
            (Against::Single, 1, _) => Self { calls: Some(1.05), cpu: Some(0.85), ..none },
            (Against::Envoy, 3, 32) => Self { calls: Some(7.0), p50: Some(0.35), ..none },
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
