//! Results, as a table for people or as JSON for programs.

use crate::call::Runtime;
use serde::Serialize;

/// One comparison. Ratios are ours over the peer's: throughput above 1 and everything else below 1 is good.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) bench: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) runtime: Runtime,
    pub(crate) callers: usize,
    pub(crate) throughput_ratio: f64,
    pub(crate) cpu_ratio: f64,
    pub(crate) p99_ratio: f64,
    pub(crate) instructions_ratio: Option<f64>,
    pub(crate) throughput: f64,
    pub(crate) peer_throughput: f64,
    pub(crate) cpu_us: f64,
    pub(crate) peer_cpu_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) peer_p99_us: f64,
    pub(crate) instructions: Option<f64>,
    pub(crate) peer_instructions: Option<f64>,
}

pub(crate) fn print(rows: &[Row], json: bool) -> anyhow::Result<()> {
    if json {
        for row in rows {
            println!("{}", serde_json::to_string(row)?);
        }
        return Ok(());
    }
    println!("Sinew against {}: medians of paired runs, ratio (ours / theirs)\n", rows.first().map_or("", |r| r.peer));
    println!(
        "runtime         callers   calls/s                      CPU us/call            p99 us                 instructions/call"
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
            "{runtime:<15} {:>7}   {:<28} {:<22} {:<22} {instructions}",
            row.callers,
            pair(row.throughput_ratio, row.throughput, row.peer_throughput, 0),
            pair(row.cpu_ratio, row.cpu_us, row.peer_cpu_us, 2),
            pair(row.p99_ratio, row.p99_us, row.peer_p99_us, 0),
        );
    }
    Ok(())
}
