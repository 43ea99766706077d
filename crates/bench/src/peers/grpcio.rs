//! gRPC's C core: a caller in Python, in a process of its own.
//!
//! Its two signals are lines: it says `ready` when its first call was answered, and ends when its input does, with one JSON
//! object that tells what became of its calls.

use crate::echo::POLICY;
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const SCRIPT: &str = include_str!("../../peers/grpcio_client.py");

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);

/// A Python that has `grpcio`.
pub(crate) fn python() -> anyhow::Result<OsString> {
    std::env::var_os("BENCH_PYTHON").context("BENCH_PYTHON names no Python with grpcio; `cargo xtask faults mesh` installs one")
}

#[derive(Debug)]
pub(crate) struct Caller {
    child: Child,
    output: BufReader<ChildStdout>,
}

#[derive(Debug, Deserialize)]
struct Ended {
    micros: Vec<u32>,
    failed: BTreeMap<String, u64>,
}

impl Caller {
    /// Calls so often a second, each of which waits so long.
    pub(crate) async fn start(servers: &[SocketAddr], rate: u32, patience: Duration) -> anyhow::Result<Self> {
        let list: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let mut command = Command::new(python()?);
        command.args(["-c", SCRIPT, &list.join(","), &rate.to_string(), &patience.as_secs_f64().to_string()]);
        command.arg(POLICY.service_config);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().context("Python")?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        timeout(START, output.read_line(&mut line)).await.context("grpcio made no call")??;
        ensure!(line.trim() == "ready", "grpcio said {line:?}");
        Ok(Self { child, output })
    }

    /// Ends it: how long the calls took that were answered, in microseconds, and what the others said.
    pub(crate) async fn end(mut self, limit: Duration) -> anyhow::Result<(Vec<u32>, BTreeMap<String, u64>)> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        timeout(limit, self.output.read_to_string(&mut text)).await.context("grpcio does not end")??;
        let Ended { micros, failed } = serde_json::from_str(&text).context("what grpcio said")?;
        Ok((micros, failed))
    }
}
