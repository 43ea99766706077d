//! `cut`: all connections to one server after the other are aborted.

use super::{
    Args, Phase,
    caller::{Calls, Load, Peer, Plan},
    row::Row,
    servers::Servers,
};
use anyhow::{Context, ensure};
use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::sleep;

/// Cuts a round, and the time between two of them.
const A_ROUND: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(50);

/// Before the first and after the last.
const WELL: Duration = Duration::from_millis(2_500);

pub(super) async fn run(args: &Args, peer: Peer) -> anyhow::Result<Row> {
    let servers = Servers::bare(None).await?;
    let load = Load::begin(peer, Plan::new(args, Calls::Idempotent), &servers.addresses).await?;
    sleep(WELL).await;
    let (cuts, mut done) = (args.rounds * A_ROUND, 0);
    for server in servers.addresses.iter().cycle().take(cuts as usize) {
        done += cut(*server)?;
        sleep(BETWEEN).await;
    }
    ensure!(done >= cuts as usize / 2, "`ss -K` cut {done} connections only; it is for root");
    sleep(WELL).await;
    let outcome = load.end().await?;
    Ok(Row::new(args, Phase::Cut, "", peer, outcome).faults(cuts).figure("connections_cut", done as f64))
}

/// Aborts all connections to a server; how many there were.
pub(super) fn cut(server: SocketAddr) -> anyhow::Result<usize> {
    let mut cut = Command::new("ss");
    cut.args(["-HK", "dst", &server.ip().to_string(), "dport", "=", &server.port().to_string()]);
    // It complains when there was nothing to cut, as just after the cut before; and prints what it cut.
    let printed = cut.stderr(Stdio::null()).output().context("ss, of iproute2")?.stdout;
    Ok(printed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count())
}

/// Whether connections can be cut here, or why not.
pub(super) fn possible() -> anyhow::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let (server, _open) = (listener.local_addr()?, std::net::TcpStream::connect(listener.local_addr()?)?);
    ensure!(cut(server)? > 0, "`ss -K` cuts nothing; it is for root, and for kernels that have INET_DIAG_DESTROY");
    Ok(())
}
