//! PostgreSQL is killed again and again in the middle of commits.

use super::{Dice, Share, customers::Customers};
use crate::{engines::Engines, shop::Shop};
use anyhow::{Context, ensure};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

const KILLS: usize = 50;

/// Orders a second: what a debug build on a busy machine bears beside everything else.
const RATE: u32 = 20;

/// Under way at once, at most.
const AT_ONCE: usize = 20;

/// Acknowledged between one kill and the next: each is in the middle of orders.
const BETWEEN: usize = 10;

/// From the last kill.
const TERMINAL: Duration = Duration::from_secs(30);

/// What is acknowledged is there, what was not is asked for again and is there once, and the books agree.
pub(super) async fn killed(share: Share) -> anyhow::Result<()> {
    let mut shop = Shop::open_on(Engines::start().await?).await?;
    let customers = Customers::begin(&shop, RATE, AT_ONCE).await?;
    let (mut dice, mut done, mut last) = (Dice(share.seed), 0, Instant::now());
    let mut down = Vec::new();
    while done < KILLS && !share.is_over() {
        customers.acknowledged_more(BETWEEN).await.with_context(|| format!("after {done} kills"))?;
        dice.pause(Duration::from_millis(500)).await;
        let since = Instant::now();
        shop.engines.as_mut().context("engines")?.postgres.crash().await?;
        down.push(since.elapsed());
        done += 1;
        share.tell(&format!("kill {done}, back after {:?}", since.elapsed()));
        last = Instant::now();
    }
    let verdict = customers.judge(&shop, last, TERMINAL).await?;
    let failed = verdict.holds();
    let down_ms = down.iter().max().map(Duration::as_millis);
    let row = json!({
        "phase": "postgres", "done": done, "of": KILLS, "failed": u8::from(failed.is_err()), "seed": share.seed,
        "seconds": share.began.elapsed().as_secs(), "longest_down_ms": down_ms, "orders": verdict,
    });
    println!("{row}");
    ensure!(done > 0, "no kill within the budget");
    failed
}
