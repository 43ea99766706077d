//! `once`: calls that must not be repeated, while servers are killed, frozen and cut off.
//!
//! Such calls may fail, and a client may only repeat those that no server has seen. Each has an id of its own, and servers
//! write down those that their handlers were given before they answer: none may be there twice.

use super::{
    Args, Phase, SERVERS,
    caller::{Calls, Load, Peer, Plan},
    cut::cut,
    row::Row,
    servers::Servers,
};
use anyhow::{Context, ensure};
use sinew_core::{Rng, SharedRng};
use std::time::Duration;
use tokio::time::sleep;

/// How long a server is away, and how long all are well then.
const AWAY: Duration = Duration::from_millis(1_500);
const WELL: Duration = Duration::from_millis(2_500);

/// Cuts that make one fault, and the time between them.
const CUTS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(50);

pub(super) async fn run(args: &Args, peer: Peer) -> anyhow::Result<Row> {
    let mut servers = Servers::mesh(&[]).await?;
    let load = Load::begin(peer, Plan::new(args, Calls::Once), &servers.addresses).await?;
    let rng = SharedRng::seeded(args.seed);
    sleep(WELL).await;
    for round in 0..args.rounds {
        let n = rng.below(SERVERS as u64) as usize;
        // Each kind as often as the others, whatever the seed.
        match round % 3 {
            0 => {
                servers.server(n)?.kill()?;
                sleep(AWAY).await;
                servers.server(n)?.restart()?;
            }
            1 => {
                servers.server(n)?.freeze()?;
                sleep(AWAY).await;
                servers.server(n)?.thaw()?;
            }
            _ => {
                let server = *servers.addresses.get(n).context("one of the servers")?;
                for _ in 0..CUTS {
                    cut(server)?;
                    sleep(BETWEEN).await;
                }
            }
        }
        sleep(WELL).await;
    }
    let outcome = load.end().await?;
    let (answered, executed) = (outcome.micros.len(), servers.executed()?);
    ensure!(executed.len() >= answered, "{answered} calls were answered, but only {} were written down", executed.len());
    let twice = executed.values().filter(|count| **count > 1).count();
    let row = Row::new(args, Phase::Once, "", peer, outcome).figure("executed_twice", twice as f64);
    Ok(row.figure("executed", executed.len() as f64).bound("no call is executed twice", twice == 0))
}
