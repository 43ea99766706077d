//! `overload`: three times as many calls as the servers can answer. How much of what they can do do they still do?
//!
//! A call takes a server 10 ms, and it works on four at once. What three of those can answer is measured first, with as many
//! callers as keep them busy; then calls come at three times that rate, from callers who wait 250 ms. Only what was answered
//! in time counts. A limit that follows latency is given time to be found; what was answered meanwhile is told beside it.

use super::{
    Args, Phase,
    caller::{Calls, Load, Peer, Plan},
    row::{Outcome, Row},
    servers::Servers,
};
use crate::{
    call,
    echo::{EchoClient, Message},
};
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// Milliseconds a call, how many at once, and how many the server lets in: as many again may wait.
const WORK: &str = "10";
const AT_ONCE: usize = 4;
const LET_IN: usize = 2 * AT_ONCE;

const PATIENCE: Duration = Duration::from_millis(250);
const OFFERED: f64 = 3.0;
const LEAST: f64 = 0.9;

/// How long the capacity is measured, the overload a round, and the overload at least.
const MEASURED: Duration = Duration::from_secs(3);
const A_ROUND: Duration = Duration::from_millis(500);
const SHORTEST: Duration = Duration::from_secs(4);
/// How long a limit that follows latency has to be found under overload.
const FOUND: Duration = Duration::from_secs(15);

pub(super) async fn run(args: &Args) -> anyhow::Result<Vec<Row>> {
    let (at_once, let_in) = (AT_ONCE.to_string(), LET_IN.to_string());
    let work = ["--work", WORK, "--at-once", &at_once];
    let limited = [work.as_slice(), &["--calls", &let_in]].concat();
    let adaptive = [work.as_slice(), &["--adaptive"]].concat();
    let (held, row) = measure(args, "admission limited", &limited, None).await?;
    let rows = vec![
        row.bound("answered in time: at least 90 % of what the servers can do", held >= LEAST),
        measure(args, "admission limited by latency", &adaptive, Some(FOUND)).await?.1.bound("only measured", true),
        // What the limit is for.
        measure(args, "admission not limited", &work, None).await?.1.bound("only measured", true),
    ];
    Ok(rows)
}

/// Goodput as a share of the capacity, once there has been overload for so long.
async fn measure(args: &Args, variant: &'static str, options: &[&str], after: Option<Duration>) -> anyhow::Result<(f64, Row)> {
    let servers = Servers::mesh(options).await?;
    let capacity = capacity(&servers).await?;
    let mut plan = Plan::new(args, Calls::Idempotent);
    plan.rate = ((capacity * OFFERED) as u32).max(1);
    plan.patience = PATIENCE;
    let offered = f64::from(plan.rate);
    let before = match after {
        Some(time) => Some(overload(&servers, plan.clone(), time).await?.1 / capacity),
        None => None,
    };
    let (outcome, goodput) = overload(&servers, plan, (A_ROUND * args.rounds).max(SHORTEST)).await?;
    let row = Row::new(args, Phase::Overload, variant, Peer::Sinew, outcome).faults(1);
    let row = row.figure("capacity_per_s", capacity).figure("offered_per_s", offered).figure("goodput_per_s", goodput);
    let row = row.figure("goodput_share", goodput / capacity).figure("goodput_share_before", before);
    Ok((goodput / capacity, row))
}

/// Makes these calls for so long; what became of them, and how many a second were answered in time.
async fn overload(servers: &Servers, plan: Plan, time: Duration) -> anyhow::Result<(Outcome, f64)> {
    let load = Load::begin(Peer::Sinew, plan, &servers.addresses).await?;
    let began = Instant::now();
    sleep(time).await;
    let outcome = load.end().await?;
    let goodput = outcome.micros.len() as f64 / began.elapsed().as_secs_f64();
    Ok((outcome, goodput))
}

/// Calls a second of servers that always have as many waiting as they work on.
async fn capacity(servers: &Servers) -> anyhow::Result<f64> {
    let (began, mut callers) = (Instant::now(), JoinSet::new());
    for server in &servers.addresses {
        let client = EchoClient::new(call::single(*server)?);
        for _ in 0..LET_IN {
            let mut client = client.clone();
            callers.spawn(async move {
                let mut answered = 0u32;
                while began.elapsed() < MEASURED {
                    client.say(Message::numbered(0)).await?;
                    answered += 1;
                }
                anyhow::Ok(answered)
            });
        }
    }
    let mut answered = 0;
    while let Some(one) = callers.join_next().await {
        answered += one??;
    }
    Ok(f64::from(answered) / began.elapsed().as_secs_f64())
}
