//! Redis is flushed, killed and stalled again and again: orders and log-ins go on, and nobody is told a wrong catalogue.

use super::{
    Share,
    customers::{Customers, Shared},
};
use crate::{engines::Engines, shop::Shop, world::SOON};
use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use testkit::wait_for;
use tokio::time::{Instant, interval};

/// Of the three faults in turn.
const FAULTS: usize = 15;

/// Orders a second.
const RATE: u32 = 10;
const AT_ONCE: usize = 50;

/// Who looks at the catalogue, and who logs in: checking a password takes long on purpose.
const LOOKS: Duration = Duration::from_millis(50);
const LOG_INS: Duration = Duration::from_millis(500);

/// How long each fault lasts: so many answers about the catalogue, orders and log-ins.
const ANSWERS: (usize, usize, usize) = (20, 10, 2);

const TERMINAL: Duration = Duration::from_secs(30);

/// What was seen meanwhile.
#[derive(Debug, Default)]
struct Seen {
    right: usize,
    /// Told that it is away, and with how many of those when to come back.
    away: usize,
    when_told: usize,
    wrong: Vec<String>,
    logged_in: usize,
    log_ins_failed: Vec<String>,
}

pub(super) async fn away(share: Share) -> anyhow::Result<()> {
    let mut shop = Shop::open_on(Engines::start().await?).await?;
    let customers = Customers::begin(&shop, RATE, AT_ONCE).await?;
    let client = customers.client();
    let catalogue = catalogue(&client).await?;
    shop.engines.as_mut().context("engines")?.redis.save().await?;
    let seen = Mutex::new(Seen::default());
    let faults =
        async {
            let (mut done, mut last) = (BTreeMap::new(), Instant::now());
            for fault in ["flush", "kill", "stall"].into_iter().cycle().take(FAULTS) {
                if share.is_over() {
                    break;
                }
                share.tell(fault);
                let redis = &mut shop.engines.as_mut().context("engines")?.redis;
                match fault {
                    "flush" => redis.flush().await?,
                    "kill" => {
                        redis.process().restart()?;
                        redis.ready().await?;
                    }
                    _ => redis.process().freeze()?,
                }
                goes_on(&customers, &seen).await.with_context(|| format!("after a {fault}: {done:?}"))?;
                match fault {
                    "stall" => redis.process().thaw()?,
                    // As an operator does.
                    _ => redis.restore().await?,
                }
                last = Instant::now();
                let right = || lock(&seen).right;
                let before = right();
                wait_for("the right catalogue", 2 * SOON, async || {
                    if right() > before { Ok(()) } else { Err(format!("{:?}", lock(&seen))) }
                })
                .await?;
                *done.entry(fault).or_insert(0usize) += 1;
                share.tell(&format!("{done:?}"));
            }
            anyhow::Ok((done, last))
        };
    let (done, last) = tokio::select! {
        biased;
        done = faults => done?,
        never = look(&client, &catalogue, &seen) => never,
        never = log_in(&client, &seen) => never,
    };
    let verdict = customers.judge(&shop, last, TERMINAL).await?;
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    for wrong in seen.wrong.iter().chain(&seen.log_ins_failed).take(10) {
        eprintln!("{wrong}");
    }
    let good = seen.wrong.is_empty() && seen.log_ins_failed.is_empty() && !done.is_empty();
    let held = verdict.holds();
    println!(
        "{}",
        json!({
            "phase": "redis", "done": done.values().sum::<usize>(), "of": FAULTS, "failed": u8::from(!good || held.is_err()),
            "seed": share.seed, "seconds": share.began.elapsed().as_secs(), "faults": done,
            "catalogue": { "right": seen.right, "away": seen.away, "away_with_retry_after": seen.when_told, "wrong": seen.wrong.len() },
            "log_ins": { "good": seen.logged_in, "failed": seen.log_ins_failed.len() }, "orders": verdict,
        })
    );
    ensure!(good, "{} wrong catalogues, {} log-ins failed", seen.wrong.len(), seen.log_ins_failed.len());
    held
}

/// Waits until orders, log-ins and answers about the catalogue went on.
async fn goes_on(customers: &Customers, seen: &Mutex<Seen>) -> anyhow::Result<()> {
    let (answers, orders, log_ins) = ANSWERS;
    let count = || {
        let seen = lock(seen);
        (seen.right + seen.away, seen.logged_in)
    };
    let before = count();
    customers.acknowledged_more(orders).await?;
    wait_for("log-ins and answers about the catalogue", SOON, async || {
        let now = count();
        if now.0 >= before.0 + answers && now.1 >= before.1 + log_ins { Ok(()) } else { Err(format!("{:?}", lock(seen))) }
    })
    .await
}

/// Asks for the catalogue for ever.
async fn look<T>(client: &Shared, catalogue: &Value, seen: &Mutex<Seen>) -> T {
    let mut looks = interval(LOOKS);
    loop {
        looks.tick().await;
        let answer = client.ask(Method::GET, "/api/v1/products", None, None, &Value::Null).await;
        let mut seen = lock(seen);
        match answer {
            Ok(answer) if answer.status == StatusCode::OK && answer.json == *catalogue => seen.right += 1,
            Ok(answer) if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT].contains(&answer.status) => {
                seen.away += 1;
                seen.when_told += usize::from(answer.headers.contains_key("retry-after"));
            }
            wrong => seen.wrong.push(format!("{wrong:?}")),
        }
    }
}

/// Logs in for ever.
async fn log_in<T>(client: &Shared, seen: &Mutex<Seen>) -> T {
    let mut times = interval(LOG_INS);
    loop {
        times.tick().await;
        let logged_in = client.log_in(0).await;
        let mut seen = lock(seen);
        match logged_in {
            Ok(_) => seen.logged_in += 1,
            Err(error) => seen.log_ins_failed.push(format!("{error:#}")),
        }
    }
}

/// What is right.
async fn catalogue(client: &Shared) -> anyhow::Result<Value> {
    let answer = client.ask(Method::GET, "/api/v1/products", None, None, &Value::Null).await?;
    ensure!(answer.json["products"].as_array().is_some_and(|products| products.len() == 4), "{answer:?}");
    Ok(answer.json)
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
