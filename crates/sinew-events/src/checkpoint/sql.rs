//! Checkpoints as rows of a SQL database.

use super::{Checkpoint, CheckpointError, Lease, Reached};
use chrono::{DateTime, TimeDelta, Utc};
use sinew_core::{BoxFuture, Clock};
use sinew_sql::{Db, Result, Tx, now, retry};
use std::{sync::Arc, time::Duration};

/// The name under which a broker follows a publisher, in the publisher's own database.
pub(crate) const BUS: &str = "bus";

/// Who follows whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) consumer: String,
    pub(crate) publisher: String,
}

/// A row of `subscriptions`.
#[derive(Debug, Clone)]
pub struct SqlCheckpoint {
    db: Db,
    name: Name,
    clock: Arc<dyn Clock>,
}

/// Where a transaction gets a subscription to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// None while the snapshot is being taken.
    pub(crate) position: Option<i64>,
    pub(crate) floor: i64,
    pub(crate) head: i64,
    pub(crate) now: DateTime<Utc>,
}

impl SqlCheckpoint {
    /// Of a broker that is handed the events of `publisher`, in the publisher's own database.
    pub fn of_bus(db: Db, publisher: &str, clock: Arc<dyn Clock>) -> Self {
        Self::new(db, Name { consumer: BUS.to_owned(), publisher: publisher.to_owned() }, clock)
    }

    pub(crate) fn new(db: Db, name: Name, clock: Arc<dyn Clock>) -> Self {
        Self { db, name, clock }
    }

    async fn ensure(&self, now: DateTime<Utc>) -> Result<()> {
        retry(|| async {
            let mut tx = self.db.begin().await?;
            let sql = "INSERT INTO subscriptions (consumer, publisher, head, epoch, lease_until, updated_at)
                       VALUES ($1, $2, 0, 0, $3, $3) ON CONFLICT DO NOTHING";
            tx.q(sql).bind(&*self.name.consumer).bind(&*self.name.publisher).bind(now).run().await?;
            tx.commit().await
        })
        .await
    }

    async fn try_claim(&self, owner: &str, lease: Duration) -> Result<Option<Lease>> {
        let (consumer, publisher, now) = (&*self.name.consumer, &*self.name.publisher, now(&*self.clock));
        // Looking is free of locks, and most looks find it held.
        let sql = "SELECT owner IS NULL OR lease_until <= $3 FROM subscriptions WHERE consumer = $1 AND publisher = $2";
        let free = self.db.snapshot().await?.q(sql).bind(consumer).bind(publisher).bind(now).opt::<(bool,)>().await?;
        match free {
            Some((false,)) => return Ok(None),
            Some((true,)) => {}
            None => self.ensure(now).await?,
        }
        retry(|| async {
            let mut tx = self.db.begin().await?;
            let sql = "UPDATE subscriptions SET owner = $3, lease_until = $4, epoch = epoch + 1
                        WHERE consumer = $1 AND publisher = $2 AND (owner IS NULL OR lease_until <= $5)
                    RETURNING epoch, position, floor";
            let claim = tx.q(sql).bind(consumer).bind(publisher).bind(owner).bind(until(now, lease)).bind(now);
            let claimed: Option<(i64, Option<i64>, i64)> = claim.opt().await?;
            tx.commit().await?;
            Ok(claimed.map(|(epoch, position, floor)| Lease { epoch, position, floor }))
        })
        .await
    }

    /// Moves on within a transaction, and holds the row until that ends; false when another has it.
    pub(crate) async fn advance_in(&self, tx: &mut Tx, epoch: i64, step: Step, lease: Duration) -> Result<bool> {
        let sql = "UPDATE subscriptions
                      SET position = $4, floor = $5, head = $6, lease_until = $7, updated_at = $8, trouble = NULL
                    WHERE consumer = $1 AND publisher = $2 AND epoch = $3";
        let moved = tx
            .q(sql)
            .bind(&*self.name.consumer)
            .bind(&*self.name.publisher)
            .bind(epoch)
            .bind(step.position)
            .bind(step.floor)
            .bind(step.head)
            .bind(until(step.now, lease))
            .bind(step.now)
            .run()
            .await?;
        Ok(moved == 1)
    }

    async fn try_advance(&self, epoch: i64, reached: Reached, lease: Duration) -> Result<bool> {
        retry(|| async {
            let mut tx = self.db.begin().await?;
            let Reached { position, head } = reached;
            let step = Step { position: Some(position), floor: 0, head, now: now(&*self.clock) };
            let moved = self.advance_in(&mut tx, epoch, step, lease).await?;
            tx.commit().await?;
            Ok(moved)
        })
        .await
    }

    async fn try_renew(&self, epoch: i64, lease: Duration) -> Result<bool> {
        retry(|| async {
            let mut tx = self.db.begin().await?;
            let sql = "UPDATE subscriptions SET lease_until = $4 WHERE consumer = $1 AND publisher = $2 AND epoch = $3";
            let until = until(now(&*self.clock), lease);
            let kept = tx.q(sql).bind(&*self.name.consumer).bind(&*self.name.publisher).bind(epoch).bind(until).run().await?;
            tx.commit().await?;
            Ok(kept == 1)
        })
        .await
    }

    async fn note(&self, epoch: i64, trouble: Option<&str>) -> Result<()> {
        retry(|| async {
            let mut tx = self.db.begin().await?;
            let sql = "UPDATE subscriptions SET trouble = $4 WHERE consumer = $1 AND publisher = $2 AND epoch = $3";
            tx.q(sql).bind(&*self.name.consumer).bind(&*self.name.publisher).bind(epoch).bind(trouble).run().await?;
            tx.commit().await
        })
        .await
    }

    async fn give_back(&self, epoch: i64) -> Result<()> {
        retry(|| async {
            let mut tx = self.db.begin().await?;
            let sql = "UPDATE subscriptions SET owner = NULL, lease_until = $4
                        WHERE consumer = $1 AND publisher = $2 AND epoch = $3";
            let now = now(&*self.clock);
            tx.q(sql).bind(&*self.name.consumer).bind(&*self.name.publisher).bind(epoch).bind(now).run().await?;
            tx.commit().await
        })
        .await
    }
}

impl Checkpoint for SqlCheckpoint {
    fn claim<'a>(&'a self, owner: &'a str, lease: Duration) -> BoxFuture<'a, Result<Option<Lease>, CheckpointError>> {
        Box::pin(async move { Ok(self.try_claim(owner, lease).await?) })
    }

    fn renew(&self, epoch: i64, lease: Duration) -> BoxFuture<'_, Result<bool, CheckpointError>> {
        Box::pin(async move { Ok(self.try_renew(epoch, lease).await?) })
    }

    fn advance(&self, epoch: i64, reached: Reached, lease: Duration) -> BoxFuture<'_, Result<bool, CheckpointError>> {
        Box::pin(async move { Ok(self.try_advance(epoch, reached, lease).await?) })
    }

    fn trouble<'a>(&'a self, epoch: i64, trouble: Option<&'a str>) -> BoxFuture<'a, Result<(), CheckpointError>> {
        Box::pin(async move { Ok(self.note(epoch, trouble).await?) })
    }

    fn release(&self, epoch: i64) -> BoxFuture<'_, Result<(), CheckpointError>> {
        Box::pin(async move { Ok(self.give_back(epoch).await?) })
    }
}

impl From<sinew_sql::Error> for CheckpointError {
    fn from(error: sinew_sql::Error) -> Self {
        Self::new(error)
    }
}

fn until(now: DateTime<Utc>, lease: Duration) -> DateTime<Utc> {
    now + TimeDelta::from_std(lease).unwrap_or(TimeDelta::MAX)
}
