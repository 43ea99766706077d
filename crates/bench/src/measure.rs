//! What a client process measures of itself.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One run of one peer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Calls answered.
    pub(crate) calls: u64,
    /// Calls per second.
    pub(crate) throughput: f64,
    /// Processor time of the whole client process per call, in microseconds.
    pub(crate) cpu_us: f64,
    /// Latencies in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Measured {
    /// Sums up a run from its latencies in nanoseconds.
    pub(crate) fn new(mut latencies: Vec<u32>, took: Duration, cpu: Duration) -> Self {
        latencies.sort_unstable();
        let calls = latencies.len();
        let quantile = |q: f64| {
            let at = ((calls as f64 * q) as usize).min(calls.saturating_sub(1));
            latencies.get(at).map_or(f64::NAN, |ns| f64::from(*ns) / 1e3)
        };
        Self {
            calls: calls as u64,
            throughput: calls as f64 / took.as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / calls as f64,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
        }
    }
}

/// Processor time of this process so far, all threads: the scheduler's own count, in nanoseconds.
pub(crate) fn cpu_time() -> anyhow::Result<Duration> {
    let mut total = 0;
    for thread in std::fs::read_dir("/proc/self/task").context("/proc/self/task")? {
        let stat = std::fs::read_to_string(thread?.path().join("schedstat")).context("schedstat of a thread")?;
        let on_cpu = stat.split_whitespace().next().context("schedstat is empty")?;
        total += on_cpu.parse::<u64>().context("schedstat is no number")?;
    }
    Ok(Duration::from_nanos(total))
}

/// The middle value; NaN of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Resident memory of a process, in bytes; `self` is this one.
pub(crate) fn memory(pid: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).with_context(|| format!("VmRSS in {path}"))?;
    let kilobytes = line.trim().trim_end_matches("kB").trim();
    Ok(kilobytes.parse::<u64>().with_context(|| format!("VmRSS in {path}"))? * 1024)
}
