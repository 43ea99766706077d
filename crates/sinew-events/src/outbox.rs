//! Events on their way out.
//!
//! Events of one aggregate are numbered in the order in which they happened **if** the append comes after the aggregate's
//! update in the same transaction: whoever holds the aggregate's row draws its sequence number after the previous holder
//! committed. Positions are given out after the commit by [`Outbox::sequence`], gapless and in the order in which they
//! become visible, so that a reader is a plain cursor. Measured on PostgreSQL under 8 writers: a cursor on the
//! auto-increment id lost 582 of 2,000 events, positions lost none and were as fast.

use chrono::{DateTime, Utc};
use prost::Message;
use sinew_core::{Context, planted};
use sinew_sql::{Db, Result, Tx, retry};
use std::sync::Arc;
use tokio::sync::Notify;
use uuid::Uuid;

/// An event about to be written.
#[derive(Debug, Clone)]
pub struct NewEvent<'a> {
    /// Whom it happened to: the order, the reservation.
    pub aggregate: Uuid,
    /// The aggregate's version after it; consumers drop older ones.
    pub version: i64,
    /// What happened: `order.placed`.
    pub kind: &'a str,
    /// Version of the payload's schema, from 1.
    pub schema: i32,
    /// The event's protobuf message, encoded.
    pub payload: Vec<u8>,
    /// When it happened, cut to microseconds: see [`sinew_sql::now`].
    pub time: DateTime<Utc>,
    /// The trace it belongs to, as a `traceparent` header.
    pub traceparent: Option<String>,
}

impl<'a> NewEvent<'a> {
    /// An event of schema version 1 that belongs to the trace of the running task.
    pub fn new(aggregate: Uuid, version: i64, kind: &'a str, payload: &impl Message, time: DateTime<Utc>) -> Self {
        let traceparent = Context::current().trace.map(|trace| trace.to_string());
        Self { aggregate, version, kind, schema: 1, payload: payload.encode_to_vec(), time, traceparent }
    }
}

/// An event that is committed and has its position.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Event {
    /// Its place among all events of this outbox: 1, 2, 3 … without gaps.
    pub pos: i64,
    /// Unique for ever: what consumers dedup by.
    pub event_id: Uuid,
    /// Whom it happened to.
    pub aggregate: Uuid,
    /// The aggregate's version after it.
    pub version: i64,
    /// What happened: `order.placed`.
    pub kind: String,
    /// Version of the payload's schema, from 1.
    pub schema: i64,
    /// The event's protobuf message, encoded.
    pub payload: Vec<u8>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// The trace it belongs to, as a `traceparent` header.
    pub traceparent: Option<String>,
}

/// The channel on which processes of one database tell each other that there are new positions.
pub(crate) const NUMBERED: &str = "outbox";

/// The outbox of one database; clones share the wake-up of whoever delivers.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    appended: Arc<Notify>,
}

impl Outbox {
    /// Writes one event. Append **after** the aggregate's update in the same transaction: that keeps their order.
    pub async fn append(&self, tx: &mut Tx, event: NewEvent<'_>) -> Result<()> {
        let sql = "INSERT INTO outbox (event_id, aggregate, version, kind, schema, payload, occurred_at, traceparent)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        tx.q(sql)
            .bind(Uuid::now_v7())
            .bind(event.aggregate)
            .bind(event.version)
            .bind(event.kind)
            .bind(i64::from(event.schema))
            .bind(event.payload)
            .bind(event.time)
            .bind(event.traceparent)
            .run()
            .await?;
        let appended = self.appended.clone();
        tx.after_commit(move || appended.notify_one());
        Ok(())
    }

    /// Waits until this process committed an event since the last time somebody waited. Other processes' events wake
    /// nobody here: poll as well.
    ///
    /// # Cancel safety
    ///
    /// Safe: a wake-up that nobody took is kept.
    pub async fn appended(&self) {
        self.appended.notified().await;
    }

    /// Gives positions to at most `limit` committed events that have none, and answers to how many. Any number of
    /// processes may do so.
    pub async fn sequence(&self, db: &Db, limit: i64) -> Result<i64> {
        retry(|| async {
            let mut tx = db.begin().await?;
            // The lock: an update of one row, on both databases.
            let lock = "UPDATE counters SET n = n WHERE name = 'outbox' RETURNING n";
            let (base,): (i64,) = tx.q(lock).one().await?;
            let mut number = "WITH pending AS (
                            SELECT seq, row_number() OVER (ORDER BY seq) AS k FROM outbox WHERE pos IS NULL ORDER BY seq LIMIT $2
                          ) UPDATE outbox SET pos = $1 + pending.k FROM pending WHERE outbox.seq = pending.seq";
            planted!(PositionFromTheId => number = "UPDATE outbox SET pos = seq WHERE pos IS NULL AND $1 >= 0 AND $2 > 0");
            let numbered = tx.q(number).bind(base).bind(limit).run().await?.cast_signed();
            if numbered == 0 {
                // Another was faster: nothing to commit, and no disk to wait for.
                return Ok(0);
            }
            tx.q("UPDATE counters SET n = n + $1 WHERE name = 'outbox'").bind(numbered).run().await?;
            tx.notify(NUMBERED).await?;
            tx.commit().await?;
            Ok(numbered)
        })
        .await
    }

    /// At most `limit` events after position `after`, in order.
    pub async fn read(&self, db: &Db, after: i64, limit: i64) -> Result<Vec<Event>> {
        let sql = "SELECT pos, event_id, aggregate, version, kind, schema, payload, occurred_at, traceparent
                     FROM outbox WHERE pos > $1 ORDER BY pos LIMIT $2";
        db.snapshot().await?.q(sql).bind(after).bind(limit).all().await
    }
}
