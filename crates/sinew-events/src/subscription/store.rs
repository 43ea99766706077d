//! A subscription's row. Every write of an owner is conditional on its epoch, so that one that froze cannot write when
//! it thaws.

use chrono::{DateTime, Utc};
use sinew_sql::{Db, Result, Tx, retry};

/// Which subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) consumer: String,
    pub(crate) publisher: String,
}

/// The right to move a subscription on, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) epoch: i64,
    /// None while the snapshot is being taken.
    pub(crate) position: Option<i64>,
    /// Whether the row tells of trouble that may have passed.
    pub(crate) troubled: bool,
}

/// A subscription as its database has it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SubscriptionStatus {
    /// The following service.
    pub consumer: String,
    /// Whose events.
    pub publisher: String,
    /// The last position that took effect; none while the publisher's snapshot is being taken.
    pub position: Option<i64>,
    /// The newest position that the publisher told of.
    pub head: i64,
    /// The replica that follows, if one does.
    pub owner: Option<String>,
    /// Why it does not get on, if it does not.
    pub trouble: Option<String>,
    /// When it last got on.
    pub updated_at: DateTime<Utc>,
}

/// Makes the subscription if it is new.
pub(crate) async fn ensure(db: &Db, name: &Name, now: DateTime<Utc>) -> Result<()> {
    retry(|| async {
        let mut tx = db.begin().await?;
        let sql = "INSERT INTO subscriptions (consumer, publisher, head, epoch, lease_until, updated_at)
                   VALUES ($1, $2, 0, 0, $3, $3) ON CONFLICT DO NOTHING";
        tx.q(sql).bind(&*name.consumer).bind(&*name.publisher).bind(now).run().await?;
        tx.commit().await
    })
    .await
}

/// Takes the subscription unless another replica holds it.
pub(crate) async fn claim(db: &Db, name: &Name, owner: &str, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<Option<Lease>> {
    // Looking is free of locks, and most looks find it held.
    let sql = "SELECT epoch FROM subscriptions WHERE consumer = $1 AND publisher = $2 AND (owner IS NULL OR lease_until <= $3)";
    let free = db.snapshot().await?.q(sql).bind(&*name.consumer).bind(&*name.publisher).bind(now).opt::<(i64,)>().await?;
    if free.is_none() {
        return Ok(None);
    }
    retry(|| async {
        let mut tx = db.begin().await?;
        let sql = "UPDATE subscriptions SET owner = $3, lease_until = $4, epoch = epoch + 1
                    WHERE consumer = $1 AND publisher = $2 AND (owner IS NULL OR lease_until <= $5) RETURNING epoch, position";
        let lease: Option<(i64, Option<i64>)> =
            tx.q(sql).bind(&*name.consumer).bind(&*name.publisher).bind(owner).bind(until).bind(now).opt().await?;
        tx.commit().await?;
        Ok(lease.map(|(epoch, position)| Lease { epoch, position, troubled: true }))
    })
    .await
}

/// Keeps the subscription for longer; false when another has it.
pub(crate) async fn renew(db: &Db, name: &Name, epoch: i64, until: DateTime<Utc>) -> Result<bool> {
    retry(|| async {
        let mut tx = db.begin().await?;
        let sql = "UPDATE subscriptions SET lease_until = $4 WHERE consumer = $1 AND publisher = $2 AND epoch = $3";
        let kept = tx.q(sql).bind(&*name.consumer).bind(&*name.publisher).bind(epoch).bind(until).run().await?;
        tx.commit().await?;
        Ok(kept == 1)
    })
    .await
}

/// Gives the subscription back, so that another replica has it at once.
pub(crate) async fn release(db: &Db, name: &Name, epoch: i64, now: DateTime<Utc>) -> Result<()> {
    retry(|| async {
        let mut tx = db.begin().await?;
        let sql = "UPDATE subscriptions SET owner = NULL, lease_until = $4 WHERE consumer = $1 AND publisher = $2 AND epoch = $3";
        tx.q(sql).bind(&*name.consumer).bind(&*name.publisher).bind(epoch).bind(now).run().await?;
        tx.commit().await
    })
    .await
}

/// Where a subscription gets to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) position: Option<i64>,
    pub(crate) head: i64,
    pub(crate) now: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
}

/// Moves the subscription on, and holds its row until the transaction ends; false when another has it.
pub(crate) async fn advance(tx: &mut Tx, name: &Name, epoch: i64, step: Step) -> Result<bool> {
    let sql = "UPDATE subscriptions SET position = $4, head = $5, lease_until = $6, updated_at = $7, trouble = NULL
                WHERE consumer = $1 AND publisher = $2 AND epoch = $3";
    let moved = tx
        .q(sql)
        .bind(&*name.consumer)
        .bind(&*name.publisher)
        .bind(epoch)
        .bind(step.position)
        .bind(step.head)
        .bind(step.until)
        .bind(step.now)
        .run()
        .await?;
    Ok(moved == 1)
}

/// Notes why the subscription does not get on, or that it does again.
pub(crate) async fn trouble(db: &Db, name: &Name, epoch: i64, trouble: Option<&str>) -> Result<()> {
    retry(|| async {
        let mut tx = db.begin().await?;
        let sql = "UPDATE subscriptions SET trouble = $4 WHERE consumer = $1 AND publisher = $2 AND epoch = $3";
        tx.q(sql).bind(&*name.consumer).bind(&*name.publisher).bind(epoch).bind(trouble).run().await?;
        tx.commit().await
    })
    .await
}

/// Takes the position away, and the subscription from its owner; false when there is no such subscription.
pub(crate) async fn begin_anew(db: &Db, publisher: &str, now: DateTime<Utc>) -> Result<bool> {
    retry(|| async {
        let mut tx = db.begin().await?;
        let sql = "UPDATE subscriptions SET position = NULL, trouble = NULL, owner = NULL, epoch = epoch + 1, lease_until = $2
                    WHERE publisher = $1";
        let found = tx.q(sql).bind(publisher).bind(now).run().await?;
        tx.commit().await?;
        Ok(found > 0)
    })
    .await
}

/// Every subscription of this database.
pub(crate) async fn all(db: &Db) -> Result<Vec<SubscriptionStatus>> {
    let sql = "SELECT consumer, publisher, position, head, owner, trouble, updated_at
                 FROM subscriptions ORDER BY publisher, consumer";
    db.snapshot().await?.q(sql).all().await
}
