//! `kill`, `stop` and `black-hole`: one server after the other is away for a while.

use super::{
    Args, Phase, SERVERS,
    caller::{Calls, Load, Peer, Plan},
    namespace::Network,
    row::Row,
    servers::Servers,
    watch::{Noticed, last_call, longest_ms, ready, until},
};
use anyhow::{Context, ensure};
use sinew_client::Client;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long all are well before the next is away.
const WELL: Duration = Duration::from_millis(5_000);

impl Phase {
    /// How long a server is away.
    fn away(self) -> Duration {
        match self {
            // Longer than a black hole may go unnoticed.
            Self::BlackHole => Duration::from_millis(5_000),
            _ => Duration::from_millis(2_500),
        }
    }
}

pub(super) async fn run(args: &Args, phase: Phase, peer: Peer) -> anyhow::Result<Row> {
    let network = (phase == Phase::BlackHole).then(|| Network::new(SERVERS)).transpose()?;
    let mut servers = Servers::bare(network).await?;
    let load = Load::begin(peer, Plan::new(args, Calls::Idempotent), &servers.addresses).await?;
    let mut noticed = Noticed::default();
    sleep(WELL / 2).await;
    for round in 0..args.rounds {
        once(phase, &mut servers, round as usize % SERVERS, load.client.as_ref(), &mut noticed).await?;
    }
    let outcome = load.end().await?;
    let unfailing = outcome.failed.is_empty();
    let row = Row::new(args, phase, "", peer, outcome);
    let row = row.figure("out_ms", longest_ms(&noticed.out)).figure("back_ms", longest_ms(&noticed.back));
    let seconds = Duration::from_secs;
    Ok(match phase {
        // When another maker's client noticed is not known.
        _ if peer != Peer::Sinew => row,
        Phase::Stop => row.bound(
            "no call fails, the last one is sent to it within 1 s, it is back within 2 s",
            unfailing && noticed.within(seconds(1), seconds(2)),
        ),
        Phase::BlackHole => row
            .bound("no call fails, the last one is sent to it within 3 s", unfailing && noticed.within(seconds(3), Duration::MAX)),
        _ => row,
    })
}

/// One server goes away, and comes back.
async fn once(phase: Phase, servers: &mut Servers, n: usize, client: Option<&Client>, noticed: &mut Noticed) -> anyhow::Result<()> {
    let began = Instant::now();
    match phase {
        Phase::Kill => servers.server(n)?.kill()?,
        Phase::Stop => servers.server(n)?.freeze()?,
        _ => servers.network.as_ref().context("no network")?.lose(n)?,
    }
    if let Some(client) = client {
        noticed.out.push(match phase {
            Phase::Kill => until(client, SERVERS - 1, began).await?,
            _ => last_call(client, n, began, phase.away()).await,
        });
    }
    sleep_until(began + phase.away()).await;
    if let Some(client) = client {
        ensure!(ready(client) < SERVERS, "nobody noticed for {:?}", phase.away());
    }
    match phase {
        Phase::Kill => servers.server(n)?.restart()?,
        Phase::Stop => servers.server(n)?.thaw()?,
        _ => servers.network.as_ref().context("no network")?.mend(n)?,
    }
    // Not before: on a busy machine `ip` has taken ten seconds.
    let began = Instant::now();
    if let Some(client) = client {
        noticed.back.push(until(client, SERVERS, began).await?);
    }
    sleep_until(began + WELL).await;
    Ok(())
}
