//! Everything is killed at random, the gateway and the registry included, while orders keep coming.

use super::{Dice, Share, customers::Customers};
use crate::{
    engines::Engines,
    shop::Shop,
    world::{Registry, SOON},
};
use anyhow::{Context, ensure};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use testkit::wait_for;
use tokio::time::Instant;

/// With a budget of that and what comes before and after.
const LONGEST: Duration = Duration::from_secs(600);

/// Of the budget: starting everything, and judging.
const AROUND: Duration = Duration::from_secs(120);

/// Orders a second.
const RATE: u32 = 50;

/// Under way at once, at most: what comes in four seconds.
const AT_ONCE: usize = 200;

/// Between two kills, at most.
const APART: Duration = Duration::from_secs(6);

/// From the last kill.
const TERMINAL: Duration = Duration::from_secs(30);

/// Everything that can be killed: processes by service and replica, and what they run on.
#[derive(Debug, Clone, Copy)]
enum Target {
    Replica(&'static str, u8),
    Postgres,
    Redis,
    RabbitMq,
    Consul,
}

fn targets() -> Vec<Target> {
    let mut all = vec![Target::Replica("gateway", 0), Target::Postgres, Target::Redis, Target::RabbitMq, Target::Consul];
    for service in ["user", "product", "inventory", "payment", "order"] {
        all.extend([Target::Replica(service, 0), Target::Replica(service, 1)]);
    }
    all
}

pub(super) async fn of_kills(share: Share) -> anyhow::Result<()> {
    let mut shop = Shop::open_on(Engines::start_durable().await?).await?;
    for queue in ["order.user", "order.product"] {
        shop.engines.as_ref().context("engines")?.rabbitmq.written_down(queue).await?;
    }
    let customers = Customers::begin(&shop, RATE, AT_ONCE).await?;
    let length = LONGEST.min(share.budget.saturating_sub(AROUND));
    let (mut dice, began, mut last) = (Dice(share.seed), Instant::now(), Instant::now());
    let mut kills: BTreeMap<String, u32> = BTreeMap::new();
    while began.elapsed() < length {
        // In turn, in another order each time: nothing is spared.
        let mut all = targets();
        super::shuffle(&mut all, dice.roll(u64::MAX));
        for target in all {
            dice.pause(APART).await;
            if began.elapsed() >= length {
                break;
            }
            if shop.strike(target).await? {
                share.tell(&name(target));
                *kills.entry(name(target)).or_default() += 1;
                last = Instant::now();
            }
        }
    }
    let engines = shop.engines.as_mut().context("engines")?;
    engines.redis.ready().await?;
    engines.rabbitmq.ready().await?;
    let verdict = customers.judge(&shop, last, TERMINAL).await?;
    let held = verdict.holds();
    let copied = shop.follows().await;
    let (done, failed) = (kills.values().sum::<u32>(), held.is_err() || copied.is_err());
    println!(
        "{}",
        json!({
            "phase": "storm", "done": done, "of": done, "failed": u8::from(failed), "seed": share.seed,
            "seconds": length.as_secs(), "rate": RATE, "kills": kills, "orders": verdict,
            "copies": copied.as_ref().map_or_else(|error| format!("{error:#}"), |()| "agree".to_owned()),
        })
    );
    ensure!(done > 0, "no kill within the budget");
    copied?;
    held
}

fn name(target: Target) -> String {
    match target {
        Target::Replica(service, _) => service.to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

impl Shop {
    /// Kills one thing. What a supervisor does not start again is started again; it may take its time to be ready, and be
    /// killed before it is.
    async fn strike(&mut self, target: Target) -> anyhow::Result<bool> {
        let engines = self.engines.as_mut().context("engines")?;
        match target {
            Target::Replica(service, replica) => return Ok(self.end(service, replica)),
            Target::Postgres => engines.postgres.crash().await?,
            Target::Redis => engines.redis.process().restart()?,
            Target::RabbitMq => engines.rabbitmq.process().restart()?,
            Target::Consul => match &mut self.registry {
                Some(Registry::Consul(consul)) => consul.process().restart()?,
                _ => anyhow::bail!("no Consul"),
            },
        }
        Ok(true)
    }

    /// Waits until order is up to date with what it copies.
    async fn follows(&self) -> anyhow::Result<()> {
        wait_for("order to be up to date", 2 * SOON, async || {
            let told = self.sinew.json(&["events", "lag", "--consul", &self.up.consul]).await.map_err(|e| format!("{e:#}"))?;
            let by_order: Vec<_> = told.as_array().into_iter().flatten().filter(|l| l["consumer"] == "order").collect();
            let done = by_order.len() == 2 && by_order.iter().all(|l| l["behind"] == 0);
            if done { Ok(()) } else { Err(told.to_string()) }
        })
        .await
    }
}
