//! `sinew load`: orders at a steady rate through the gateway, and what became of each.
//!
//! The rate does not depend on the answers (an open loop), and latency counts from the moment a request was due: a
//! system that stalls is not asked less, nor measured only when it is well.

mod cards;
pub(crate) mod key;
mod shopper;
mod tally;

use crate::{
    exit::Exit,
    http::{Ask, Http},
    output::{self, Format},
    shutdown::Signals,
};
use cards::Cards;
use shopper::{Ended, Shopper};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tally::Tally;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

/// Longer than any answer should take: a request is given up after it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Orders under way at once; beyond it the generator, not the system, would be measured.
const AT_ONCE: usize = 2_000;

/// Orders whose end is asked for at once.
const FOLLOWED_AT_ONCE: usize = 32;

/// How often an open order is looked at while waiting for its end.
const LOOK: Duration = Duration::from_millis(200);

/// Places orders at a steady rate and tells what became of them. Exit code 0 when nothing failed and every accepted order
/// has ended.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The gateway.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    gateway: String,

    /// Orders a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rps: u32,

    /// For how many seconds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400), value_name = "SECONDS")]
    duration: u64,

    /// Customers that are made and order in turn.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    users: u32,

    /// Shares of payment tokens: good, declined, and those whose bank takes the money and says nothing.
    #[arg(long, default_value = "ok=90,declined=8,timeout=2", value_name = "MIX")]
    cards: Cards,

    /// How long accepted orders may take to end, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    settle: u64,

    /// Where `sinew up` keeps its data: the key of the load generators' rate-limit class.
    #[arg(long, env = "SINEW_DATA_DIR", default_value = crate::DEFAULT_DATA_DIR)]
    data_dir: PathBuf,

    /// How to write the summary.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    let mut signals = Signals::new()?;
    let http = Http::new(&args.gateway, PATIENCE)?;
    let key = key::known(&args.data_dir);
    let products = products(&http, key.as_deref()).await?;
    let shoppers = Shopper::make(&http, key.as_deref(), args.users, &products).await?;
    let tally = Arc::new(Mutex::new(Tally::default()));
    eprintln!("placing {} orders a second for {} s at {}", args.rps, args.duration, args.gateway);
    let mut orders = JoinSet::new();
    let started = Instant::now();
    let end = started + Duration::from_secs(args.duration);
    tokio::select! {
        biased;
        () = signals.next() => eprintln!("\nending early"),
        () = send(&args, started, end, &shoppers, &tally, &mut orders) => {}
        never = progress(&tally, started) => never,
    }
    // What was sent is waited for: each gives up by itself.
    while orders.join_next().await.is_some() {}
    let seconds = started.elapsed().as_secs_f64();
    let settle = settle(&shoppers, &tally, Duration::from_secs(args.settle));
    tokio::select! {
        biased;
        () = signals.next() => eprintln!("not waiting for open orders"),
        () = settle => {}
    }
    let summary = tally.lock().unwrap_or_else(PoisonError::into_inner).summary(seconds);
    if args.output == Format::Text {
        output::write(&summary.text())?;
    } else {
        args.output.print(&summary, &[], |_| Vec::new())?;
    }
    if summary.is_good() { Ok(()) } else { Err(Exit::no("some calls failed, or accepted orders have not ended")) }
}

/// Sends orders when they are due, whatever became of those before.
async fn send(
    args: &Args,
    started: Instant,
    end: Instant,
    shoppers: &[Arc<Shopper>],
    tally: &Arc<Mutex<Tally>>,
    orders: &mut JoinSet<()>,
) {
    for n in 0u32.. {
        let due = started + Duration::from_secs(1) * n / args.rps;
        if due >= end {
            return;
        }
        sleep_until(due).await;
        while orders.try_join_next().is_some() {}
        if orders.len() >= AT_ONCE {
            tally.lock().unwrap_or_else(PoisonError::into_inner).not_sent();
            continue;
        }
        let Some(shopper) = shoppers.get(n as usize % shoppers.len().max(1)).cloned() else { return };
        let (tally, card) = (tally.clone(), args.cards.pick(n));
        orders.spawn(async move {
            let placed = shopper.place(card).await;
            tally.lock().unwrap_or_else(PoisonError::into_inner).placed(placed, due.elapsed());
        });
    }
}

/// One line that is written again and again, or one every ten seconds where nobody watches. Never ends.
async fn progress<T>(tally: &Mutex<Tally>, started: Instant) -> T {
    let terminal = std::io::stderr().is_terminal();
    let mut ticks = interval(if terminal { Duration::from_secs(1) } else { Duration::from_secs(10) });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let line = tally.lock().unwrap_or_else(PoisonError::into_inner).line(started.elapsed());
        if terminal {
            eprint!("\r{line}\x1b[K");
            std::io::stderr().flush().ok();
        } else {
            eprintln!("{line}");
        }
    }
}

/// Follows every accepted order until it has ended.
async fn settle(shoppers: &[Arc<Shopper>], tally: &Arc<Mutex<Tally>>, limit: Duration) {
    let open = tally.lock().unwrap_or_else(PoisonError::into_inner).open();
    if std::io::stderr().is_terminal() {
        eprintln!("\nwaiting for {} orders", open.len());
    }
    let deadline = Instant::now() + limit;
    let mut following = JoinSet::new();
    for (index, order) in open.into_iter().enumerate() {
        let Some(shopper) = shoppers.iter().find(|s| s.id() == order.customer).cloned() else { continue };
        if index >= FOLLOWED_AT_ONCE {
            following.join_next().await;
        }
        let tally = tally.clone();
        following.spawn(async move {
            let ended = timeout(deadline.saturating_duration_since(Instant::now()), async {
                loop {
                    match shopper.ended(&order.id).await {
                        Ended::NotYet => sleep(LOOK).await,
                        ended => return ended,
                    }
                }
            });
            let ended = ended.await.unwrap_or(Ended::NotYet);
            tally.lock().unwrap_or_else(PoisonError::into_inner).ended(ended);
        });
    }
    while following.join_next().await.is_some() {}
}

/// Everything there is to buy.
async fn products(http: &Http, key: Option<&str>) -> Result<Vec<String>, Exit> {
    let headers = key::headers(key);
    let listed = http.expect(Ask { headers: &headers, ..Ask::get("/api/v1/products") }).await?;
    let products = listed["products"].as_array().into_iter().flatten();
    // What there are only three of would fail most orders.
    let plenty = products.filter(|product| product["name"] != "Kettle");
    let ids: Vec<_> = plenty.filter_map(|product| product["productId"].as_str().map(str::to_owned)).collect();
    if ids.is_empty() { Err(Exit::unavailable("there are no products to order")) } else { Ok(ids) }
}
