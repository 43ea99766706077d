//! `everything-fails`: every call is answered UNAVAILABLE. How much do retries add to the load of servers that fail under it?
//!
//! Over one hop, and over three: the client calls A, whose handler calls B, whose handler calls C, which fails. Each hop has
//! a Sinew client with a retry policy of three attempts. What the servers at the end were given is compared with the calls
//! that were made, once the first two seconds (with the budget's first tokens) are over. Breakers keep most calls from the
//! servers; so that they hide nothing, it is measured without them too, where only budget and throttle are in the way.

use super::{
    Args, Phase, SERVERS,
    caller::{Calls, Load, Peer, Plan},
    row::Row,
    servers::{Executed, Servers},
};
use crate::echo::{UNTHROTTLED, without_breakers};
use sinew_client::Config;
use std::time::Duration;
use tokio::time::sleep;

/// Not counted.
const FIRST: Duration = Duration::from_secs(2);

/// Counted, a round, and at least.
const A_ROUND: Duration = Duration::from_millis(500);
const LEAST: Duration = Duration::from_secs(4);

/// Attempts over calls.
const MOST: [(usize, f64, &str); 2] =
    [(1, 1.10, "at most 1.10 attempts at the last hop a call"), (3, 1.25, "at most 1.25 attempts at the last hop a call")];

/// What bounds retries.
struct Variant {
    name: [&'static str; 2],
    breakers: bool,
    throttle: bool,
}

const VARIANTS: [Variant; 3] = [
    Variant { name: ["one hop", "three hops"], breakers: true, throttle: true },
    Variant { name: ["one hop, without breakers", "three hops, without breakers"], breakers: false, throttle: true },
    Variant {
        name: ["one hop, without breakers and throttle", "three hops, without breakers and throttle"],
        breakers: false,
        throttle: false,
    },
];

pub(super) async fn run(args: &Args) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for variant in &VARIANTS {
        for ((hops, most, bound), name) in MOST.into_iter().zip(variant.name) {
            rows.push(measure(args, variant, hops, name, most, bound).await?);
        }
    }
    Ok(rows)
}

async fn measure(
    args: &Args,
    variant: &Variant,
    hops: usize,
    name: &'static str,
    most: f64,
    bound: &'static str,
) -> anyhow::Result<Row> {
    let mut options = Vec::new();
    options.extend((!variant.breakers).then_some("--no-breakers"));
    options.extend((!variant.throttle).then_some("--no-throttle"));
    // From the last one on: each must know where the next is.
    let mut chain = vec![Servers::mesh(&[options.as_slice(), &["--fail"]].concat()).await?];
    while let (true, Some(next)) = (chain.len() < hops, chain.last()) {
        let list = next.list();
        let before = Servers::mesh(&[options.as_slice(), &["--onward", &list]].concat()).await?;
        chain.push(before);
    }
    let mut plan = Plan::new(args, Calls::Idempotent);
    // A hop is a call too, and all of them share this machine.
    plan.rate = (args.rate / hops as u32).max(1);
    if !variant.breakers {
        plan.config = without_breakers(Config::default());
    }
    if !variant.throttle {
        plan.policy = UNTHROTTLED;
    }
    let first_counted = u64::from(plan.rate) * FIRST.as_secs();
    let first = chain.last().map(|servers| servers.addresses.clone()).unwrap_or_default();
    let load = Load::begin(Peer::Sinew, plan, &first).await?;
    sleep(FIRST + (A_ROUND * args.rounds).max(LEAST)).await;
    let outcome = load.end().await?;
    let calls = (outcome.micros.len() as u64 + outcome.failures()).saturating_sub(first_counted);
    let count = |executed: Executed| {
        let counted = executed.into_iter().filter(|(id, _)| *id >= first_counted);
        counted.fold((0u64, 0u64), |(ids, attempts), (_, times)| (ids + 1, attempts + u64::from(times)))
    };
    let mut row = Row::new(args, Phase::EverythingFails, name, Peer::Sinew, outcome).faults((hops * SERVERS) as u32);
    for (servers, figure) in chain.iter().rev().zip(["attempts_first_hop", "attempts_second_hop", "attempts_third_hop"]) {
        row = row.figure(figure, count(servers.executed()?).1 as f64);
    }
    let (ids, attempts) = match chain.first() {
        Some(last) => count(last.executed()?),
        None => (0, 0),
    };
    let amplification = attempts as f64 / calls.max(1) as f64;
    row = row.figure("counted_calls", calls as f64).figure("amplification", amplification);
    // Of the calls that came through at all: what breakers kept away does not dilute it.
    row = row.figure("attempts_of_a_call_that_arrived", attempts as f64 / ids.max(1) as f64);
    Ok(row.bound(bound, amplification <= most && attempts > 0))
}
