//! What a whole order costs, and how many there are a second: `bench orders`.
//!
//! `sinew up` with two replicas of each service on private engines: PostgreSQL (fsync on), Redis, RabbitMQ; all of it on
//! this machine. Shoppers in a closed loop order through the gateway. Counted from quiet to quiet, less what the idle system
//! does in that time: commits, fsyncs and bytes of the write-ahead log. Beside it, on the same PostgreSQL with the services
//! stopped, pgbench sends the order path's own SQL.

mod load;
mod pgbench;
mod proc;
mod system;

use anyhow::ensure;
use load::{Load, Shopper, Tally};
use serde_json::json;
use sinew_sql::Db;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use system::{Counts, Cpu, LOAD, System};
use tokio::time::{Instant, sleep};

/// Commits that an order may cost.
const BOUND: f64 = 12.0;

/// After it PostgreSQL's idle backends have told what they counted: they do after ten seconds.
const SETTLE: Duration = Duration::from_secs(12);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shoppers at once; each waits for its order's end before it places another.
    #[arg(long, default_value_t = 32)]
    shoppers: usize,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 10)]
    warm_up: u64,
    /// Seconds for which the idle system is counted.
    #[arg(long, default_value_t = 20)]
    idle: u64,
    /// One JSON object a row instead of text.
    #[arg(long)]
    json: bool,
}

/// What the system did under load.
struct Measured {
    per_second: f64,
    /// p50 and p99 in ms until accepted and until ended.
    times: [(f64, f64); 2],
    cpu_ms: Cpu,
    idle: Counts,
    with_idle: Counts,
    per_order: Counts,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure(args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let mut system = System::start().await?;
    let measured = loaded(args, &mut system).await?;
    let engines = system.stop().await?;
    let url = pgbench::prepare(&engines).await?;
    let pgbench = pgbench::measure(&engines, &url, args.shoppers, args.warm_up, args.seconds).await?;
    if args.json {
        measured.print_json(args, pgbench)
    } else {
        measured.print(args, pgbench)
    }
    Ok(())
}

async fn loaded(args: &Args, system: &mut System) -> anyhow::Result<Measured> {
    let stats = Db::open(&system.engines.postgres.url("postgres"), 1).await?;
    let orders = Db::open(&system.engines.url("order"), 2).await?;
    let shoppers = Shopper::make(&system.gateway()?, args.shoppers).await?;
    sleep(SETTLE).await;
    let (quiet, since) = (Counts::read(&stats).await?, Instant::now());
    sleep(Duration::from_secs(args.idle)).await;
    let (before, began) = (Counts::read(&stats).await?, Instant::now());
    let idle = before.since(&quiet, (began - since).as_secs_f64());
    let placed_before = ended(&orders).await?;

    let tally = Arc::new(Tally::new()?);
    let load = Load::start(shoppers, orders.clone(), &tally);
    sleep(Duration::from_secs(args.warm_up)).await;
    tally.take_times();
    let (cpu, from, count) = (system.cpu(), Instant::now(), tally.ended.load(Relaxed));
    sleep(Duration::from_secs(args.seconds)).await;
    let count = (tally.ended.load(Relaxed) - count) as f64;
    let (per_second, times) = (count / from.elapsed().as_secs_f64(), tally.take_times());
    let used = |(name, ms): (String, f64)| (ms - cpu.get(&name).copied().unwrap_or_default(), name);
    let cpu_ms = system.cpu().into_iter().map(used).map(|(ms, name)| (name, ms / count)).collect();
    load.stop().await?;

    sleep(SETTLE).await;
    let after = Counts::read(&stats).await?;
    let all = tally.ended.load(Relaxed);
    let completed = ended(&orders).await? - placed_before;
    ensure!(completed == i64::try_from(all)?, "{completed} of {all} orders are completed");
    let (all, seconds) = (all as f64, began.elapsed().as_secs_f64());
    let with_idle = after.since(&before, all);
    let per_order = with_idle.without(&idle, seconds / all);
    orders.close().await;
    stats.close().await;
    Ok(Measured { per_second, times, cpu_ms, idle, with_idle, per_order })
}

/// Completed orders.
async fn ended(orders: &Db) -> anyhow::Result<i64> {
    let (n,): (i64,) = orders.snapshot().await?.q("SELECT count(*) FROM orders WHERE state = 'completed'").one().await?;
    Ok(n)
}

impl Measured {
    /// Milliseconds of processor time of everything but the load generator.
    fn cpu_of_the_system(&self) -> f64 {
        self.cpu_ms.iter().filter(|(name, _)| *name != LOAD).map(|(_, ms)| ms).sum()
    }

    fn held(&self) -> bool {
        self.per_order.all_commits() <= BOUND
    }

    fn print(&self, args: &Args, pgbench: f64) {
        let [(accepted50, accepted99), (ended50, ended99)] = self.times;
        println!(
            "{:.0} orders/s completed by {} shoppers; accepted after p50 {accepted50:.0} ms, p99 {accepted99:.0} ms; ended after p50 {ended50:.0} ms, p99 {ended99:.0} ms",
            self.per_second, args.shoppers
        );
        println!(
            "pgbench, the same SQL by {} clients: {pgbench:.0} orders/s; the system: x {:.2}",
            args.shoppers,
            self.per_second / pgbench
        );
        println!(
            "per order: {:.1} commits (bound {BOUND}), {:.1} fsyncs, {:.0} bytes of WAL",
            self.per_order.all_commits(),
            self.per_order.syncs,
            self.per_order.wal_bytes
        );
        println!(
            "  idle system, taken off: {:.1} commits/s, {:.1} fsyncs/s; with it {:.1} commits and {:.1} fsyncs per order",
            self.idle.all_commits(),
            self.idle.syncs,
            self.with_idle.all_commits(),
            self.with_idle.syncs
        );
        let commits = self.per_order.commits.iter().map(|(name, n)| format!("{name} {n:.2}"));
        println!("  commits by database: {}", commits.collect::<Vec<_>>().join(", "));
        println!("CPU per order: {:.2} ms and the load generator's", self.cpu_of_the_system());
        for (name, ms) in &self.cpu_ms {
            println!("  {name:22} {ms:6.2} ms");
        }
    }

    fn print_json(&self, args: &Args, pgbench: f64) {
        let [(accepted50, accepted99), (ended50, ended99)] = self.times;
        let row = json!({
            "row": "orders", "shoppers": args.shoppers, "per_second": self.per_second, "pgbench_per_second": pgbench,
            "of_pgbench": self.per_second / pgbench, "accepted_p50_ms": accepted50, "accepted_p99_ms": accepted99,
            "ended_p50_ms": ended50, "ended_p99_ms": ended99,
        });
        println!("{row}");
        let row = json!({
            "row": "commits", "per_order": self.per_order.all_commits(), "by_database": self.per_order.commits,
            "idle_per_second": self.idle.all_commits(), "per_order_with_idle": self.with_idle.all_commits(),
            "bound": BOUND, "held": self.held(),
        });
        println!("{row}");
        let row = json!({
            "row": "wal", "fsyncs_per_order": self.per_order.syncs, "bytes_per_order": self.per_order.wal_bytes,
            "idle_fsyncs_per_second": self.idle.syncs, "fsyncs_per_order_with_idle": self.with_idle.syncs,
        });
        println!("{row}");
        let row = json!({ "row": "cpu", "ms_per_order": self.cpu_of_the_system(), "by_process": self.cpu_ms });
        println!("{row}");
    }
}
