//! How soon a coordinator that was restarted has its sagas going again: `bench sagas`.
//!
//! A private PostgreSQL (fsync on) holds open sagas of a replica that died just now, whose leases have yet to end. A new
//! coordinator starts; participants answer at once. Measured is the time until the next step of the last saga was sent, and
//! until the last saga has ended.

use anyhow::ensure;
use serde_json::json;
use sinew_core::{BoxFuture, Clock, SharedRng, SystemClock};
use sinew_saga::{Change, Config, Coordinator, Definition, Failure, Instance, Phase, Recorder, Step};
use sinew_sql::{DEFAULT_CONNECTIONS, Db, Tx};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use testkit::{Durability, Postgres, wait_for};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Open sagas.
    #[arg(long, default_value_t = 10_000)]
    open: usize,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What participants saw.
#[derive(Default)]
struct Seen {
    sent: Mutex<HashSet<Uuid>>,
    ended: AtomicUsize,
}

/// The participant of one step, the `N`th.
struct At<const N: usize>(Arc<Seen>);

impl<const N: usize> Step<String> for At<N> {
    const NAME: &'static str = ["reserve", "charge", "confirm"][N];
    type Output = ();
    fn act<'a>(&'a self, saga: &'a Instance<String>) -> BoxFuture<'a, Result<(), Failure>> {
        self.0.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(saga.id);
        Box::pin(std::future::ready(Ok(())))
    }
    fn undo<'a>(&'a self, _: &'a Instance<String>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Counts those that end: a commit that is repeated counts twice, which happens to none here.
struct Ends(Arc<Seen>);

impl Recorder<String> for Ends {
    fn record<'a>(
        &'a self,
        tx: &'a mut Tx,
        _: &'a Instance<String>,
        phase: Phase,
        _: &'a Change,
    ) -> BoxFuture<'a, sinew_sql::Result<()>> {
        if phase.is_terminal() {
            let seen = self.0.clone();
            tx.after_commit(move || {
                seen.ended.fetch_add(1, Relaxed);
            });
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure(args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let postgres = Postgres::start(Durability::Real).await?;
    let db = Db::open(&postgres.database("sagas")?, DEFAULT_CONNECTIONS).await?;
    let seen = Arc::new(Seen::default());
    let dead = coordinator(&db, &seen).await?;
    let sagas = dead.sagas();
    for first in (0..args.open).step_by(500) {
        let mut tx = db.begin().await?;
        for _ in first..args.open.min(first + 500) {
            sagas.start(&mut tx, Uuid::now_v7(), &"a purchase with its lines and its price".to_owned()).await?;
        }
        tx.commit().await?;
    }
    drop((sagas, dead));
    let lease = chrono::TimeDelta::from_std(Config::default().lease)?;
    let mut tx = db.begin().await?;
    let sql = "UPDATE sagas SET owner = 'dead', epoch = 1, due_at = $1";
    let owned = tx.q(sql).bind(sinew_sql::now(&SystemClock) + lease).run().await?;
    tx.commit().await?;
    ensure!(owned == args.open as u64, "{owned} sagas");

    let (began, ending, mut tasks) = (Instant::now(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(coordinator(&db, &seen).await?.run(ending.clone()));
    let limit = Duration::from_secs(120);
    let sent = wait_for("every saga's next step", limit, async || {
        let sent = seen.sent.lock().unwrap_or_else(PoisonError::into_inner).len();
        if sent == args.open { Ok(began.elapsed().as_secs_f64()) } else { Err(format!("{sent} sent")) }
    })
    .await?;
    let ended = wait_for("every saga's end", limit, async || {
        let ended = seen.ended.load(Relaxed);
        if ended >= args.open { Ok(began.elapsed().as_secs_f64()) } else { Err(format!("{ended} ended")) }
    })
    .await?;
    ending.cancel();
    tasks.join_all().await;
    if args.json {
        let row = json!({ "open": args.open, "sent_seconds": sent, "ended_seconds": ended, "bound": 10.0, "held": sent <= 10.0 });
        println!("{row}");
    } else {
        let open = args.open;
        println!(
            "{open} open sagas: the next step of the last was sent after {sent:.1} s, its lease of 2.5 s included (bound 10 s); the last ended after {ended:.1} s"
        );
    }
    Ok(())
}

async fn coordinator(db: &Db, seen: &Arc<Seen>) -> anyhow::Result<Coordinator<String>> {
    let definition = Definition::new("bench", Ends(seen.clone()));
    let definition = definition.step(At::<0>(seen.clone())).step(At::<1>(seen.clone())).step(At::<2>(seen.clone()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(Coordinator::new(db.clone(), definition, Config::default(), clock, Arc::new(SharedRng::from_os())).await?)
}
