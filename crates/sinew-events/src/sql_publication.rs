//! The outbox of a SQL database, delivered: positions given out soon after each commit, old events forgotten.

use crate::{
    Event, Extent, Outbox, Owned, Publication, PublicationError,
    checkpoint::{BUS, jittered},
    outbox::NUMBERED,
};
use chrono::{DateTime, TimeDelta, Utc};
use sinew_core::{BoxFuture, Clock, Rng};
use sinew_sql::{Db, Result, now, retry};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// How long events are kept. A week: a consumer that was away for longer takes the snapshot, which is then the shorter way.
const KEPT: TimeDelta = TimeDelta::days(7);

/// How often old events are looked for. An hour is nothing beside a week.
const SWEEP: Duration = Duration::from_secs(3_600);

/// Events forgotten per transaction: writers wait for no more than some milliseconds.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

/// Commits that come within 5 ms share one numbering transaction; nobody notices the wait.
const GATHER: Duration = Duration::from_millis(5);

/// How often to look for events of a process that died between its commit and its numbering. One indexed read.
const LOOK: Duration = Duration::from_millis(250);

/// How often followers look for what another process numbered, where the database does not tell. One indexed read.
const POLL: Duration = Duration::from_millis(50);

/// The same where it does: a lost connection may swallow a wake-up.
const POLL_BEHIND_LISTENING: Duration = Duration::from_secs(1);

/// Events numbered per transaction.
const NUMBERED_AT_ONCE: i64 = 500;

/// The events of one SQL database. Clones share the wake-up of followers.
#[derive(Debug, Clone)]
pub struct SqlPublication {
    db: Db,
    outbox: Outbox,
    owned: Arc<dyn Owned>,
    /// Wakes followers in the order in which they came; a `watch` would wake them in a random one.
    numbered: Arc<Notify>,
    listening: Arc<AtomicBool>,
}

impl SqlPublication {
    /// Over an outbox of this database; `owned` tells everything for snapshots.
    pub fn new(db: Db, outbox: Outbox, owned: Arc<dyn Owned>) -> Self {
        Self { db, outbox, owned, numbered: Arc::default(), listening: Arc::default() }
    }

    /// Gives committed events their positions and forgets old ones, for as long as it is polled: a service runs it
    /// beside its server. Any number of replicas may.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any place.
    pub async fn run(&self, clock: &dyn Clock, rng: &dyn Rng) {
        tokio::join!(self.give_positions(clock, rng), self.listen(rng));
    }

    /// Passes on what other processes tell of new positions, where the database carries it.
    async fn listen(&self, rng: &dyn Rng) {
        loop {
            match self.db.listen(NUMBERED).await {
                Ok(None) => return,
                Ok(Some(mut others)) => {
                    self.listening.store(true, Relaxed);
                    let lost = loop {
                        // Also for what was said before we listened.
                        self.numbered.notify_waiters();
                        if let Err(error) = others.heard().await {
                            break error;
                        }
                    };
                    self.listening.store(false, Relaxed);
                    tracing::debug!(error = %lost, "not listening for other processes' events; looking for them");
                }
                Err(error) => tracing::debug!(%error, "not listening for other processes' events; looking for them"),
            }
            sleep(jittered(LOOK, rng)).await;
        }
    }

    async fn give_positions(&self, clock: &dyn Clock, rng: &dyn Rng) {
        let mut sweep = Instant::now();
        loop {
            // A wake-up means that something of ours is there; silence, that a look is due.
            let woken = timeout(jittered(LOOK, rng), self.outbox.appended()).await.is_ok();
            if woken {
                sleep(GATHER).await;
            }
            if let Err(error) = self.number(woken).await {
                tracing::warn!(%error, "committed events have no position yet; trying again");
                sleep(jittered(LOOK, rng)).await;
                continue;
            }
            if Instant::now() >= sweep {
                sweep = Instant::now() + SWEEP;
                match self.forget(now(clock) - KEPT).await {
                    Ok(0) => {}
                    Ok(floor) => tracing::debug!(floor, "old events forgotten"),
                    Err(error) => tracing::warn!(%error, "old events not forgotten; trying again later"),
                }
            }
        }
    }

    async fn number(&self, surely: bool) -> Result<()> {
        if !surely && pending(&self.db).await? == 0 {
            return Ok(());
        }
        loop {
            let numbered = self.outbox.sequence(&self.db, NUMBERED_AT_ONCE).await?;
            if numbered > 0 {
                self.numbered.notify_waiters();
            }
            // What was committed meanwhile wakes us again: to look for it now would cost a transaction each time.
            if numbered < NUMBERED_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Forgets events from before `cutoff`, oldest first, and answers the position up to which none are kept now; 0 when
    /// nothing was forgotten. What a broker has yet to be handed is kept, as long as somebody tried to since `cutoff`: its
    /// outage may be longer than that.
    pub async fn forget(&self, cutoff: DateTime<Utc>) -> Result<i64> {
        let mut floor = 0;
        loop {
            let batch = retry(|| async {
                let mut tx = self.db.begin().await?;
                let sql = "SELECT max(pos) FROM (SELECT pos FROM outbox WHERE pos IS NOT NULL AND occurred_at < $1
                             ORDER BY pos LIMIT $2) AS old";
                let (last,): (Option<i64>,) = tx.q(sql).bind(cutoff).bind(FORGOTTEN_AT_ONCE).one().await?;
                let relayed = "SELECT min(position) FROM subscriptions WHERE consumer = $1 AND lease_until >= $2";
                let (relayed,): (Option<i64>,) = tx.q(relayed).bind(BUS).bind(cutoff).one().await?;
                let (floor,): (i64,) = tx.q("SELECT n FROM counters WHERE name = 'outbox_floor'").one().await?;
                let last = last.map(|last| relayed.map_or(last, |relayed| last.min(relayed)));
                let Some(last) = last.filter(|last| *last > floor) else { return Ok::<_, sinew_sql::Error>(None) };
                tx.q("DELETE FROM outbox WHERE pos <= $1").bind(last).run().await?;
                tx.q("UPDATE counters SET n = $1 WHERE name = 'outbox_floor' AND n < $1").bind(last).run().await?;
                tx.commit().await?;
                Ok(Some(last))
            })
            .await?;
            let Some(last) = batch else { return Ok(floor) };
            floor = last;
        }
    }
}

impl Publication for SqlPublication {
    fn extent(&self) -> BoxFuture<'_, Result<Extent, PublicationError>> {
        Box::pin(async {
            let mut tx = self.db.snapshot().await?;
            let counters: Vec<(String, i64)> = tx.q("SELECT name, n FROM counters").all().await?;
            let counter = |wanted: &str| counters.iter().find(|(name, _)| name == wanted).map_or(0, |(_, n)| *n);
            let (pending,): (i64,) = tx.q("SELECT count(*) FROM outbox WHERE pos IS NULL").one().await?;
            Ok(Extent { floor: counter("outbox_floor"), head: counter("outbox"), pending })
        })
    }

    fn read(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, PublicationError>> {
        Box::pin(async move { Ok(self.outbox.read(&self.db, after, i64::try_from(limit).unwrap_or(i64::MAX)).await?) })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let numbered = self.numbered.clone().notified_owned();
        let poll = if self.listening.load(Relaxed) { POLL_BEHIND_LISTENING } else { POLL };
        Box::pin(async move {
            let _ = timeout(poll, numbered).await;
        })
    }

    fn owned(&self) -> &dyn Owned {
        &*self.owned
    }
}

async fn pending(db: &Db) -> Result<i64> {
    let sql = "SELECT count(*) FROM (SELECT seq FROM outbox WHERE pos IS NULL LIMIT 1) AS pending";
    let (pending,): (i64,) = db.snapshot().await?.q(sql).one().await?;
    Ok(pending)
}
