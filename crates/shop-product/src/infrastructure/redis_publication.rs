//! The catalogue's events in Redis: a stream whose entries are named by their position.
//!
//! The script that makes a change draws the position and appends the entry, so there is no committed event without one.
//! What a Redis that lost its last second (AOF every second) has forgotten is not hidden: its head is behind the consumers'
//! positions then, and they take everything anew. One that lost everything tells nothing until its services restart.

use super::redis_catalogue::{GENERATION, OUTBOX, POSITION, RedisCatalogue};
use crate::domain::Error;
use chrono::{DateTime, TimeDelta, Utc};
use redis::{AsyncCommands, streams::StreamRangeReply};
use sinew_core::{BoxFuture, Clock};
use sinew_events::{Event, Extent, Owned, Publication, PublicationError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long events are kept, as in the outboxes of the other services.
const KEPT: TimeDelta = TimeDelta::days(7);

/// How often old events are looked for. An hour is nothing beside a week.
const SWEEP: Duration = Duration::from_secs(3_600);

/// How often followers look for what another process appended. One small read.
const POLL: Duration = Duration::from_millis(50);

/// Entries looked at per step of forgetting.
const AT_ONCE: usize = 1_000;

impl RedisCatalogue {
    /// Forgets old events, now and then, for ever.
    pub(crate) async fn keep_forgetting(&self, clock: &dyn Clock) {
        loop {
            match self.forget(sinew_sql::now(clock) - KEPT).await {
                Ok(forgotten) => tracing::debug!(forgotten, "old events forgotten"),
                Err(error) => tracing::warn!(%error, "old events not forgotten; trying again later"),
            }
            sleep(SWEEP).await;
        }
    }

    /// Forgets events from before `cutoff`, oldest first, and answers how many. Positions are not times, so the oldest are
    /// looked at and the stream is cut at the first that is young enough.
    pub(crate) async fn forget(&self, cutoff: DateTime<Utc>) -> Result<usize, Error> {
        let mut redis = self.connection();
        let mut forgotten = 0;
        loop {
            let oldest: StreamRangeReply = redis.xrange_count(OUTBOX, "-", "+", AT_ONCE).await?;
            let events = events(oldest)?;
            let old = events.iter().take_while(|event| event.occurred_at < cutoff).count();
            let Some(last) = old.checked_sub(1).and_then(|last| events.get(last)) else { return Ok(forgotten) };
            let cut: usize =
                redis::cmd("XTRIM").arg(OUTBOX).arg("MINID").arg(format!("{}-0", last.pos + 1)).query_async(&mut redis).await?;
            forgotten += cut;
        }
    }

    async fn try_extent(&self) -> Result<Extent, Error> {
        let mut both = redis::pipe();
        both.get(GENERATION).get(POSITION).xrange_count(OUTBOX, "-", "+", 1);
        let (generation, head, first): (Option<String>, Option<i64>, StreamRangeReply) =
            both.query_async(&mut self.connection()).await?;
        self.same(generation.as_deref())?;
        let head = head.unwrap_or(0);
        let floor = events(first)?.first().map_or(head, |first| first.pos - 1);
        Ok(Extent { floor, head, pending: 0 })
    }

    async fn try_read(&self, after: i64, limit: usize) -> Result<Vec<Event>, Error> {
        let mut both = redis::pipe();
        both.get(GENERATION).xrange_count(OUTBOX, format!("{}-0", after + 1), "+", limit);
        let (generation, found): (Option<String>, StreamRangeReply) = both.query_async(&mut self.connection()).await?;
        self.same(generation.as_deref())?;
        events(found)
    }
}

impl Publication for RedisCatalogue {
    fn extent(&self) -> BoxFuture<'_, Result<Extent, PublicationError>> {
        Box::pin(async { self.try_extent().await.map_err(|error| PublicationError(error.into())) })
    }

    fn read(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, PublicationError>> {
        Box::pin(async move { self.try_read(after, limit).await.map_err(|error| PublicationError(error.into())) })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let appended = self.appended().notified();
        Box::pin(async {
            let _ = timeout(POLL, appended).await;
        })
    }

    fn owned(&self) -> &dyn Owned {
        self
    }
}

/// Entries as events.
fn events(reply: StreamRangeReply) -> Result<Vec<Event>, Error> {
    let event = |entry: redis::streams::StreamId| {
        let broken = |field: &str| Error::Internal(format!("event {}: {field}", entry.id).into());
        let text = |field: &str| entry.get::<String>(field).ok_or_else(|| broken(field));
        let number = |field: &str| entry.get::<i64>(field).ok_or_else(|| broken(field));
        let id = |field: &str| text(field)?.parse().map_err(|_| broken(field));
        let position = entry.id.split('-').next().and_then(|p| p.parse().ok()).ok_or_else(|| broken("position"))?;
        Ok(Event {
            pos: position,
            event_id: id("event_id")?,
            aggregate: id("aggregate")?,
            version: number("version")?,
            kind: text("kind")?,
            schema: number("schema")?,
            payload: entry.get::<Vec<u8>>("payload").ok_or_else(|| broken("payload"))?,
            occurred_at: DateTime::from_timestamp_micros(number("occurred_at")?).ok_or_else(|| broken("occurred_at"))?,
            traceparent: Some(text("traceparent")?).filter(|t| !t.is_empty()),
        })
    };
    reply.ids.into_iter().map(event).collect()
}
