//! `age`: servers tell their connections to go after two seconds, all the time.
//!
//! Half of it with calls that may be repeated, and half with calls that must not be: a connection's orderly end costs neither.

use super::{
    Args, Phase,
    caller::{Calls, Load, Peer, Plan},
    row::Row,
    servers::Servers,
};
use anyhow::{Context, ensure};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};
use tokio::time::sleep;

/// Of connections, in seconds.
const AGE: u64 = 2;

/// Each of the two halves, a round.
const A_ROUND: Duration = Duration::from_secs(3);

pub(super) async fn run(args: &Args, peer: Peer) -> anyhow::Result<Vec<Row>> {
    let (mut rows, age) = (Vec::new(), AGE.to_string());
    for (variant, calls) in [("idempotent", Calls::Idempotent), ("not to be repeated", Calls::Once)] {
        // C core's retry policy is the same for both.
        if peer == Peer::Grpcio && calls == Calls::Once {
            continue;
        }
        let servers = Servers::mesh(&["--age", &age]).await?;
        let load = Load::begin(peer, Plan::new(args, calls), &servers.addresses).await?;
        let mut seen = BTreeSet::new();
        let seconds = A_ROUND.as_secs() * u64::from(args.rounds);
        for _ in 0..seconds {
            seen.extend(connections(&servers.addresses)?);
            sleep(Duration::from_secs(1)).await;
        }
        let outcome = load.end().await?;
        let expected = seconds / AGE / 2;
        ensure!(seen.len() as u64 >= expected, "there were only {} connections in {seconds} s: none became old", seen.len());
        let aged = seen.len().saturating_sub(servers.addresses.len());
        rows.push(Row::new(args, Phase::Age, variant, peer, outcome).faults(aged as u32));
    }
    Ok(rows)
}

/// The ports at which connections to these servers begin.
fn connections(servers: &[SocketAddr]) -> anyhow::Result<Vec<(u16, u16)>> {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/self/net/tcp").context("/proc/self/net/tcp")?;
    let port = |address: &str| address.split_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    let connection = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
        (fields.next()? == ESTABLISHED && servers.iter().any(|server| server.port() == remote)).then_some((local, remote))
    };
    Ok(table.lines().filter_map(connection).collect())
}
