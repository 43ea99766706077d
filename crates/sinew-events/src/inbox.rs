//! Events that took effect here.

use chrono::{DateTime, TimeDelta, Utc};
use sinew_sql::{Db, Result, Tx, retry};
use uuid::Uuid;

/// The notes of one consumer.
#[derive(Debug, Clone)]
pub struct Inbox {
    consumer: String,
}

impl Inbox {
    /// `consumer` names what takes the effect: `order.products`.
    pub fn new(consumer: impl Into<String>) -> Self {
        Self { consumer: consumer.into() }
    }

    /// Notes the event in the transaction of its effect; false when it took effect before.
    pub async fn first_time(&self, tx: &mut Tx, event_id: Uuid, now: DateTime<Utc>) -> Result<bool> {
        let sql = "INSERT INTO inbox (consumer, event_id, seen_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        Ok(tx.q(sql).bind(&*self.consumer).bind(event_id).bind(now).run().await? == 1)
    }

    /// Forgets notes older than `age`, for all consumers, and answers how many. Nothing that old may still be delivered.
    pub async fn sweep(db: &Db, now: DateTime<Utc>, age: TimeDelta) -> Result<u64> {
        retry(|| async {
            let mut tx = db.begin().await?;
            let forgotten = tx.q("DELETE FROM inbox WHERE seen_at < $1").bind(now - age).run().await?;
            tx.commit().await?;
            Ok(forgotten)
        })
        .await
    }
}
