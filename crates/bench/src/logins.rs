//! Whether a flood of log-ins slows the others down: `bench logins --gateway http://127.0.0.1:8080 --load-key …`.
//!
//! Asks a running system for its products at a steady rate, in rounds without and with a flood of log-ins beside it (good
//! and wrong passwords, known and unknown users), and compares the latencies round by round.

use crate::gateway::{Gateway, With};
use anyhow::ensure;
use http::{Method, StatusCode, Uri};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

const EMAIL: &str = "bench-logins@load.example";
const PASSWORD: &str = "correct horse";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The gateway of a running system: `sinew up`.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    gateway: Uri,
    /// The gateway's key for load generators, `load-key` in the data directory: its rate limit would hide the flood.
    #[arg(long, env = "SINEW_RATE_LOAD_KEY")]
    load_key: String,
    /// Pairs of rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds a round.
    #[arg(long, default_value_t = 6)]
    seconds: u32,
    /// Requests for products a second.
    #[arg(long, default_value_t = 100)]
    rps: u32,
    /// Log-ins a second in every other round.
    #[arg(long, default_value_t = 50)]
    logins: u32,
    /// One JSON object a row instead of text.
    #[arg(long)]
    json: bool,
}

/// Latencies in microseconds, and how often which status came.
#[derive(Default)]
struct Seen {
    latencies: Vec<u64>,
    statuses: BTreeMap<u16, u64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let gateway = Gateway::new(args.gateway.clone(), &args.load_key);
    let user = json!({ "email": EMAIL, "name": "Bench", "password": PASSWORD }).to_string();
    let made = ask(&gateway, Method::POST, "/api/v1/users", user).await?;
    ensure!([StatusCode::CREATED, StatusCode::CONFLICT].contains(&made), "a user cannot be made: {made}");
    let (mut ratios50, mut ratios99) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let (alone, _) = round_of(args, &gateway, 0).await;
        let (beside, logins) = round_of(args, &gateway, args.logins).await;
        let [a50, a99, b50, b99] = [(&alone, 0.5), (&alone, 0.99), (&beside, 0.5), (&beside, 0.99)].map(|(s, q)| s.quantile(q));
        for seen in [&alone, &beside] {
            ensure!(seen.statuses.keys().all(|s| *s == 200), "products are not to be had: {:?}", seen.statuses);
        }
        ratios50.push(b50 / a50);
        ratios99.push(b99 / a99);
        if args.json {
            let row = json!({ "round": round, "alone_p50_ms": a50, "alone_p99_ms": a99, "flood_p50_ms": b50,
                              "flood_p99_ms": b99, "logins": logins.statuses });
            println!("{row}");
        } else {
            println!(
                "round {round}: p50 {a50:.2} -> {b50:.2} ms, p99 {a99:.2} -> {b99:.2} ms; log-ins by status {:?}",
                logins.statuses
            );
        }
    }
    let (p50, p99) = (median(&mut ratios50), median(&mut ratios99));
    if args.json {
        println!("{}", json!({ "p50_ratio": p50, "p99_ratio": p99, "bound": 2.0, "held": p99 <= 2.0 }));
    } else {
        println!(
            "with {} log-ins a second beside it, median of {} pairs: p50 x {p50:.2}, p99 x {p99:.2}",
            args.logins, args.rounds
        );
    }
    Ok(())
}

/// One round: requests for products, and log-ins beside them. Both when they are due, whatever came of those before.
async fn round_of(args: &Args, gateway: &Gateway, logins: u32) -> (Seen, Seen) {
    let products = steady(args.seconds, args.rps, |_| {
        let gateway = gateway.clone();
        async move { ask(&gateway, Method::GET, "/api/v1/products", String::new()).await }
    });
    let flood = steady(args.seconds, logins, |n| {
        let gateway = gateway.clone();
        let (email, password) = match n % 3 {
            0 => (EMAIL.to_owned(), PASSWORD),
            1 => (EMAIL.to_owned(), "wrong horse"),
            _ => (format!("nobody-{n}@load.example"), PASSWORD),
        };
        let body = json!({ "email": email, "password": password }).to_string();
        async move { ask(&gateway, Method::POST, "/api/v1/sessions", body).await }
    });
    tokio::join!(products, flood)
}

async fn steady<F>(seconds: u32, rps: u32, ask: impl Fn(u32) -> F) -> Seen
where
    F: Future<Output = anyhow::Result<StatusCode>> + Send + 'static,
{
    let (start, mut asked) = (Instant::now(), JoinSet::new());
    for n in 0..seconds * rps {
        let due = start + Duration::from_secs(1) * n / rps;
        sleep_until(due).await;
        let answer = ask(n);
        asked.spawn(async move { (answer.await.map_or(0, |status| status.as_u16()), due.elapsed()) });
    }
    let mut seen = Seen::default();
    while let Some(done) = asked.join_next().await {
        let Ok((status, latency)) = done else { continue };
        seen.latencies.push(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        *seen.statuses.entry(status).or_default() += 1;
    }
    seen.latencies.sort_unstable();
    seen
}

async fn ask(gateway: &Gateway, method: Method, path: &str, body: String) -> anyhow::Result<StatusCode> {
    Ok(gateway.ask(method, path, With::default(), body).await?.0)
}

impl Seen {
    /// In milliseconds.
    fn quantile(&self, q: f64) -> f64 {
        let at = ((self.latencies.len() as f64 * q) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default() as f64 / 1_000.0
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
