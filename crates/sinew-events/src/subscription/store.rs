//! Subscriptions as an operator sees them.

use chrono::{DateTime, Utc};
use sinew_sql::{Db, Result, retry};

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
