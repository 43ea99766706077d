//! Events that took effect here.

use chrono::{DateTime, TimeDelta, Utc};
use sinew_sql::{Db, Result, Tx, retry};
use std::collections::HashSet;
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

    /// Notes events in the transaction of their effects, and answers which of them had none before. One statement for all:
    /// a consumer that catches up would otherwise wait for one round trip more with each event.
    pub async fn first_times(&self, tx: &mut Tx, events: &[Uuid], now: DateTime<Utc>) -> Result<HashSet<Uuid>> {
        if events.is_empty() {
            return Ok(HashSet::new());
        }
        // Neither database takes a list of ids the way the other does; JSON is what both unpack.
        let sql = (
            "INSERT INTO inbox (consumer, event_id, seen_at)
             SELECT $1, CAST(v AS uuid), $3 FROM jsonb_array_elements_text($2) AS v
                 ON CONFLICT DO NOTHING RETURNING event_id",
            "INSERT INTO inbox (consumer, event_id, seen_at)
             SELECT $1, unhex(value), $3 FROM json_each($2) WHERE true
                 ON CONFLICT DO NOTHING RETURNING event_id",
        );
        let list = serde_json::Value::from_iter(events.iter().map(|id| id.simple().to_string()));
        let new: Vec<(Uuid,)> = tx.q(sql).bind(&*self.consumer).bind(list).bind(now).all().await?;
        Ok(new.into_iter().map(|(id,)| id).collect())
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
