//! How fast a consumer catches up when the broker was away: `bench drain`.
//!
//! A publisher and a consumer with a private PostgreSQL each (fsync on) and a private RabbitMQ with a quorum queue between
//! them. The publisher tells at a steady rate throughout. The broker is killed, started anew after the outage, and the
//! consumer drains what gathered while more arrives. Its effect is a row: the aggregate's version, written in the
//! transaction that notes the event. Each aggregate's versions must come one by one: none back, none left out, none twice.

use crate::events::{Line, QUEUE};
use anyhow::{Context, ensure};
use serde_json::json;
use sinew_core::BoxFuture;
use sinew_events::{Event, NewEvent, Projection, ProjectionError};
use sinew_sql::{Tx, now};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use testkit::{Durability, Postgres, RabbitMq, wait_for};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep, sleep_until},
};
use uuid::Uuid;

/// How many times the rate of arrival a drain must reach.
const BOUND: f64 = 5.0;

/// Caught up is who is no more than so much behind: what `bench events --broker` may take from commit to effect.
const CAUGHT_UP: Duration = Duration::from_millis(100);

/// Steady telling before the outage.
const BEFORE: Duration = Duration::from_secs(5);

/// The longest that anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Both databases have it: what the publisher owns, and the consumer's copy.
const SCHEMA: &[&str] = &["CREATE TABLE things (thing uuid PRIMARY KEY, version bigint NOT NULL)"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Events a second, each in a transaction of its own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Seconds from the broker's kill to its start; it takes some more until it answers.
    #[arg(long, default_value_t = 10)]
    outage: u64,
    /// Aggregates, told of in turn. Few, so that their order is put to the test.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    aggregates: u32,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What took effect, as of each commit.
#[derive(Debug, Default)]
struct Effects {
    versions: BTreeMap<Uuid, i64>,
    count: u64,
    /// Versions that were not the next of their aggregate.
    out_of_order: u64,
    last: Option<Instant>,
}

/// Writes the version of each aggregate.
struct Copies(Arc<Mutex<Effects>>);

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Copies")
    }
}

impl Effects {
    fn took(&mut self, (aggregate, version): (Uuid, i64)) {
        let last = self.versions.entry(aggregate).or_default();
        self.out_of_order += u64::from(version != *last + 1);
        *last = version.max(*last);
        self.count += 1;
        self.last = Some(Instant::now());
    }
}

impl Projection for Copies {
    fn apply<'a>(&'a self, tx: &'a mut Tx, event: &'a Event) -> BoxFuture<'a, Result<(), ProjectionError>> {
        Box::pin(self.take(tx, vec![(event.aggregate, event.version)]))
    }

    fn apply_all<'a>(&'a self, tx: &'a mut Tx, events: &'a [&'a Event]) -> Option<BoxFuture<'a, Result<(), ProjectionError>>> {
        Some(Box::pin(self.take(tx, events.iter().map(|event| (event.aggregate, event.version)).collect())))
    }
}

impl Copies {
    async fn take(&self, tx: &mut Tx, events: Vec<(Uuid, i64)>) -> Result<(), ProjectionError> {
        let sql = "INSERT INTO things (thing, version)
                   SELECT thing, max(version) FROM jsonb_to_recordset($1) AS v (thing uuid, version bigint) GROUP BY thing
                       ON CONFLICT (thing) DO UPDATE SET version = excluded.version WHERE things.version < excluded.version";
        let rows = events.iter().map(|(thing, version)| json!({"thing": thing.to_string(), "version": version}));
        tx.q(sql).bind(serde_json::Value::from_iter(rows)).run().await?;
        let effects = self.0.clone();
        tx.after_commit(move || {
            let mut effects = lock(&effects);
            events.into_iter().for_each(|event| effects.took(event));
        });
        Ok(())
    }
}

/// A publisher's telling, without end.
struct Telling {
    line: Line,
    things: Vec<Uuid>,
    rate: u32,
    committed: AtomicU64,
    failed: AtomicU64,
}

impl Telling {
    /// Tells when it is due, whatever became of those before.
    async fn run(self: Arc<Self>) {
        let (start, mut under_way) = (Instant::now(), JoinSet::new());
        for n in 0u32.. {
            sleep_until(start + Duration::from_secs(1) * n / self.rate).await;
            while under_way.try_join_next().is_some() {}
            let telling = self.clone();
            under_way.spawn(async move {
                let done = telling.tell(n).await;
                if done.is_ok() { &telling.committed } else { &telling.failed }.fetch_add(1, Relaxed);
            });
        }
    }

    /// One change of an aggregate and its event. Whoever changes it waits for who did before, so versions are in order.
    async fn tell(&self, n: u32) -> anyhow::Result<()> {
        let thing = *self.things.get(n as usize % self.things.len()).context("an aggregate")?;
        let publisher = &self.line.publisher;
        let mut tx = publisher.db.begin().await?;
        let sql = "UPDATE things SET version = version + 1 WHERE thing = $1 RETURNING version";
        let (version,): (i64,) = tx.q(sql).bind(thing).one().await?;
        let payload = "a hundred bytes of what happened, more or less: what events of a shop have, in a field".to_owned();
        let event = NewEvent::new(thing, version, "thing.changed", &payload, now(&sinew_core::SystemClock));
        publisher.outbox.append(&mut tx, event).await?;
        Ok(tx.commit().await?)
    }

    /// The aggregates and their versions.
    async fn told(&self) -> anyhow::Result<BTreeMap<Uuid, i64>> {
        let mut tx = self.line.publisher.db.snapshot().await?;
        let rows: Vec<(Uuid, i64)> = tx.q("SELECT thing, version FROM things WHERE version > 0").all().await?;
        Ok(rows.into_iter().collect())
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure(args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let (postgres, mut broker) = (Postgres::start(Durability::Real).await?, RabbitMq::start().await?);
    let effects = Arc::new(Mutex::new(Effects::default()));
    let line = Line::open(&postgres, Some(&broker), Arc::new(Copies(effects.clone())), SCHEMA).await?;
    let things: Vec<Uuid> = (0..args.aggregates).map(|_| Uuid::now_v7()).collect();
    let mut tx = line.publisher.db.begin().await?;
    for thing in &things {
        tx.q("INSERT INTO things (thing, version) VALUES ($1, 0)").bind(*thing).run().await?;
    }
    tx.commit().await?;
    // What is told before the consumer has taken its (empty) snapshot would be missing in the count.
    line.followed().await?;
    // A queue that is not on disk yet is not there again after a kill.
    broker.written_down(QUEUE).await?;

    let telling = Telling { line, things, rate: args.rate, committed: AtomicU64::new(0), failed: AtomicU64::new(0) };
    let telling = Arc::new(telling);
    let mut teller = JoinSet::new();
    teller.spawn(telling.clone().run());
    wait_for("the first effect", LIMIT, async || {
        let trouble = telling.line.trouble().await.map_err(|e| e.to_string())?;
        if lock(&effects).count > 0 { Ok(()) } else { Err(format!("trouble: {trouble:?}")) }
    })
    .await?;
    sleep(BEFORE).await;

    broker.process().kill()?;
    let killed = Instant::now();
    sleep(Duration::from_secs(args.outage)).await;
    broker.process().restart()?;
    broker.ready().await?;
    let (answers, told_before, taken_before) = (Instant::now(), telling.committed.load(Relaxed), lock(&effects).count);
    let away = (answers - killed).as_secs_f64();

    // Looked at by ticks: the consumer's commits are what is timed, and a tick is short beside the drain.
    let slack = u64::from(args.rate) * u64::try_from(CAUGHT_UP.as_millis())? / 1_000;
    let (mut first, mut ticks) = (None, interval(Duration::from_millis(5)));
    let (caught_up, taken) = loop {
        ticks.tick().await;
        let taken = lock(&effects).count;
        if taken > taken_before && first.is_none() {
            first = lock(&effects).last;
        }
        if taken + slack >= telling.committed.load(Relaxed) && first.is_some() {
            break (Instant::now(), taken);
        }
        ensure!(answers.elapsed() < LIMIT, "{taken} of {} after {LIMIT:?}", telling.committed.load(Relaxed));
    };
    let told = telling.committed.load(Relaxed);
    let first = first.context("the first effect")?;
    teller.shutdown().await;

    // Nothing is left out, whatever a shutdown cut off: what is committed is what the publisher's own table says.
    let whole = wait_for("everything to take effect", LIMIT, async || {
        let told = telling.told().await.map_err(|e| e.to_string())?;
        let taken = &lock(&effects).versions;
        if told == *taken { Ok(()) } else { Err(format!("{told:?} told, {taken:?} took effect")) }
    });
    whole.await?;
    let out_of_order = lock(&effects).out_of_order;
    ensure!(out_of_order == 0, "{out_of_order} events were not the next of their aggregate");
    ensure!(telling.failed.load(Relaxed) == 0, "{} could not be told", telling.failed.load(Relaxed));

    let drained = taken - taken_before;
    let all = (caught_up - answers).as_secs_f64();
    let reconnecting = (first - answers).as_secs_f64();
    let arrival = (told - told_before) as f64 / all;
    let (rate, pure) = (drained as f64 / all, drained as f64 / (all - reconnecting));
    let (bound, held) = (BOUND * f64::from(args.rate), rate >= BOUND * f64::from(args.rate));
    if args.json {
        let row = json!({
            "rate": args.rate, "away_seconds": away, "behind": told_before - taken_before, "drained": drained, "seconds": all,
            "reconnect_seconds": reconnecting, "per_second": rate, "per_second_connected": pure, "arrival_per_second": arrival,
            "bound": bound, "held": held,
        });
        println!("{row}");
    } else {
        println!(
            "the broker was away for {away:.1} s at {} events/s; {} were behind when it answered again",
            args.rate,
            told_before - taken_before
        );
        println!(
            "{drained} drained in {all:.2} s: {rate:.0}/s (bound {bound:.0}); the first took effect after {reconnecting:.2} s, from then on {pure:.0}/s; {arrival:.0}/s arrived meanwhile"
        );
        println!("nothing lost, no aggregate out of order");
    }
    Ok(())
}

fn lock(effects: &Mutex<Effects>) -> MutexGuard<'_, Effects> {
    effects.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_the_next_of_its_aggregate_is_seen() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut effects = Effects::default();
        for (thing, version) in [(one, 1), (two, 1), (one, 2)] {
            effects.took((thing, version));
        }
        assert_eq!((effects.out_of_order, effects.count), (0, 3));
        for (back, version) in [(one, 1), (two, 3), (one, 2)] {
            effects.took((back, version));
        }
        assert_eq!((effects.out_of_order, effects.versions), (3, BTreeMap::from([(one, 2), (two, 3)])));
    }
}
