//! Results, as a table for people or as JSON for programs.

use crate::drive::Runtime;
use serde::Serialize;

/// One comparison. Ratios are ours over the peer's: throughput above 1 and everything else below 1 is good.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) bench: &'static str,
    pub(crate) endpoints: usize,
    pub(crate) peer: &'static str,
    pub(crate) runtime: Runtime,
    pub(crate) callers: usize,
    pub(crate) throughput_ratio: f64,
    pub(crate) cpu_ratio: f64,
    pub(crate) p50_ratio: f64,
    pub(crate) p99_ratio: f64,
    pub(crate) instructions_ratio: Option<f64>,
    pub(crate) throughput: f64,
    pub(crate) peer_throughput: f64,
    pub(crate) cpu_us: f64,
    pub(crate) peer_cpu_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) peer_p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) peer_p99_us: f64,
    pub(crate) instructions: Option<f64>,
    pub(crate) peer_instructions: Option<f64>,
    /// What is wanted, if anything is, and whether it came out.
    pub(crate) bound: String,
    pub(crate) held: bool,
}

pub(crate) fn print(rows: &[Row], json: bool) -> anyhow::Result<()> {
    if json {
        for row in rows {
            println!("{}", serde_json::to_string(row)?);
        }
        return Ok(());
    }
    let (peer, endpoints) = rows.first().map_or(("", 0), |row| (row.peer, row.endpoints));
    println!("Sinew against {peer}, {endpoints} endpoints: medians of paired runs, ratio (ours / theirs)\n");
    println!(
        "runtime         callers   calls/s                      CPU us/call            p50 us                 p99 us                 instructions/call"
    );
    for row in rows {
        let runtime = match row.runtime {
            Runtime::CurrentThread => "current-thread",
            Runtime::MultiThread => "multi-thread",
        };
        let pair = |ratio: f64, ours: f64, theirs: f64, digits: usize| format!("{ratio:.2} ({ours:.digits$} / {theirs:.digits$})");
        let instructions = match (row.instructions_ratio, row.instructions, row.peer_instructions) {
            (Some(ratio), Some(ours), Some(theirs)) => pair(ratio, ours, theirs, 0),
            _ => "-".to_owned(),
        };
        println!(
            "{runtime:<15} {:>7}   {:<28} {:<22} {:<22} {:<22} {instructions}",
            row.callers,
            pair(row.throughput_ratio, row.throughput, row.peer_throughput, 0),
            pair(row.cpu_ratio, row.cpu_us, row.peer_cpu_us, 2),
            pair(row.p50_ratio, row.p50_us, row.peer_p50_us, 0),
            pair(row.p99_ratio, row.p99_us, row.peer_p99_us, 0),
        );
        if !row.bound.is_empty() {
            println!("{:<25} {}: {}", "", row.bound, if row.held { "held" } else { "MISSED" });
        }
    }
    Ok(())
}

/// What each adds to a process in memory.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) bench: &'static str,
    pub(crate) peer: &'static str,
    /// Resident bytes: a client with Sinew over one with a bare channel, and a sidecar.
    pub(crate) added_bytes: f64,
    pub(crate) peer_added_bytes: f64,
    pub(crate) ratio: f64,
    /// The ratio at most, and whether that came out.
    pub(crate) bound: f64,
    pub(crate) held: bool,
}

impl Memory {
    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        let megabytes = |bytes: f64| bytes / f64::from(1 << 20);
        if json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            let (ours, theirs) = (megabytes(self.added_bytes), megabytes(self.peer_added_bytes));
            let (peer, ratio, bound, held) = (self.peer, self.ratio, self.bound, if self.held { "held" } else { "MISSED" });
            println!(
                "\nmemory added to a process: {ours:.2} MiB, {peer}: {theirs:.2} MiB; ratio {ratio:.4}, at most {bound}: {held}"
            );
        }
        Ok(())
    }
}
