//! One turn of a subscription: the snapshot, or a stream of batches until it ends.

use super::{
    Subscription,
    store::{self, Lease, Step},
};
use crate::{Batch, Event, FeedError, ProjectionError, feed::Page};
use futures_util::StreamExt;
use sinew_core::{
    Context,
    context::scope,
    failpoint,
    trace::{OpenSpan, SpanKind, TraceContext},
};
use sinew_sql::{Tx, retry};
use std::sync::atomic::Ordering::Relaxed;

/// What became of a turn.
pub(super) enum Turn {
    /// The subscription is another's.
    Lost,
    /// Go on at once.
    Again,
    /// Go on after a wait.
    Failed(Failure),
}

/// Why a turn failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    #[error("the publisher's events are not in order: {0}")]
    Broken(String),
}

impl From<sinew_sql::Error> for Failure {
    fn from(error: sinew_sql::Error) -> Self {
        Self::Projection(error.into())
    }
}

/// Whether events happened, and are noted; those of a snapshot tell how things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    Yes,
    No,
}

/// What a transaction made of some events.
enum Taken {
    Fenced,
    Yes { applied: u64, repeated: u64 },
}

impl Subscription {
    pub(super) async fn turn(&self, lease: &mut Lease) -> Turn {
        let done = match lease.position {
            None => self.snapshot(lease).await,
            Some(_) => self.batches(lease).await,
        };
        match done {
            Ok(turn) => turn,
            Err(Failure::Feed(FeedError::OutOfRange)) => {
                tracing::warn!(
                    publisher = self.name.publisher,
                    position = lease.position,
                    "too late for the events; taking a snapshot"
                );
                lease.position = None;
                Turn::Again
            }
            Err(failure) => Turn::Failed(failure),
        }
    }

    /// Takes everything the publisher owns, page by page. Begun anew after a crash: repeating it is harmless.
    async fn snapshot(&self, lease: &mut Lease) -> Result<Turn, Failure> {
        let mut token = None;
        loop {
            let Page { events, position, next } = self.feed.page(&self.name.consumer, token.as_deref()).await?;
            let reached = next.is_none().then_some(position);
            let Taken::Yes { applied, .. } = self.take(lease.epoch, reached, position, &events, Happened::No).await? else {
                return Ok(Turn::Lost);
            };
            self.meter.applied.fetch_add(applied, Relaxed);
            token = next;
            if token.is_none() {
                self.meter.snapshots.fetch_add(1, Relaxed);
                tracing::info!(publisher = self.name.publisher, position, "snapshot taken");
                lease.position = Some(position);
                return Ok(Turn::Again);
            }
        }
    }

    /// Follows until the stream ends.
    async fn batches(&self, lease: &mut Lease) -> Result<Turn, Failure> {
        let mut batches = self.feed.follow(&self.name.consumer, lease.position.unwrap_or_default()).await?;
        while let Some(batch) = batches.next().await {
            let Batch { mut events, head } = batch?;
            if std::mem::take(&mut lease.troubled) {
                // Also a publisher that has nothing to tell is well again.
                store::trouble(&self.db, &self.name, lease.epoch, None).await?;
            }
            let after = lease.position.unwrap_or_default();
            events.retain(|event| event.pos > after);
            in_order(after, &events)?;
            match self.advance(lease, &events, head).await {
                Ok(true) => {}
                Ok(false) => return Ok(Turn::Lost),
                Err(ProjectionError::Malformed { position, .. }) if position > after + 1 => {
                    // What came before it must not wait with it.
                    events.retain(|event| event.pos < position);
                    if !self.advance(lease, &events, head).await? {
                        return Ok(Turn::Lost);
                    }
                    return Ok(Turn::Again);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Turn::Again)
    }

    /// Takes events that happened; false when the subscription is another's.
    async fn advance(&self, lease: &mut Lease, events: &[Event], head: i64) -> Result<bool, ProjectionError> {
        let after = lease.position.unwrap_or_default();
        let Some(last) = events.last() else {
            self.meter.at(after, head);
            return Ok(true);
        };
        let Taken::Yes { applied, repeated } = self.take(lease.epoch, Some(last.pos), head, events, Happened::Yes).await? else {
            return Ok(false);
        };
        lease.position = Some(last.pos);
        self.meter.applied.fetch_add(applied, Relaxed);
        self.meter.repeated.fetch_add(repeated, Relaxed);
        self.meter.at(last.pos, head);
        self.meter.delayed(last.occurred_at, self.now());
        Ok(true)
    }

    /// The events' effects, the notes that they took effect, and the new position: one transaction.
    async fn take(
        &self,
        epoch: i64,
        position: Option<i64>,
        head: i64,
        events: &[Event],
        happened: Happened,
    ) -> Result<Taken, ProjectionError> {
        retry(|| async {
            let now = self.now();
            let mut tx = self.db.begin().await?;
            let step = Step { position, head: head.max(position.unwrap_or_default()), now, until: self.until(now) };
            if !store::advance(&mut tx, &self.name, epoch, step).await? {
                return Ok(Taken::Fenced);
            }
            let (mut applied, mut repeated) = (0, 0);
            for event in events {
                if happened == Happened::Yes && !self.inbox.first_time(&mut tx, event.event_id, now).await? {
                    repeated += 1;
                    continue;
                }
                self.apply(&mut tx, event).await?;
                applied += 1;
            }
            failpoint!("events.take.before_commit");
            tx.commit().await?;
            failpoint!("events.take.after_commit");
            Ok(Taken::Yes { applied, repeated })
        })
        .await
    }

    /// One event's effect, as part of the trace of what caused it.
    async fn apply(&self, tx: &mut Tx, event: &Event) -> Result<(), ProjectionError> {
        let Some(cause) = event.traceparent.as_deref().and_then(TraceContext::parse) else {
            return self.projection.apply(tx, event).await;
        };
        let span = OpenSpan::below(cause, self.now().into(), &*self.rng);
        let trace = span.as_ref().map_or(cause, OpenSpan::context);
        let context = Context { trace: Some(trace), ..Context::default() };
        let done = scope(context, self.projection.apply(tx, event)).await;
        if let Some(span) = span {
            let attributes = vec![
                ("messaging.system", "sinew".to_owned()),
                ("messaging.operation.type", "process".to_owned()),
                ("messaging.destination.name", self.name.publisher.clone()),
                ("messaging.message.id", event.event_id.to_string()),
                ("messaging.consumer.group.name", self.name.consumer.clone()),
            ];
            let error = done.as_ref().err().map(ToString::to_string);
            span.end(format!("{} process", event.kind), SpanKind::Consumer, self.now().into(), attributes, error);
        }
        done
    }
}

/// A gap is never passed over: it would be lost for good.
fn in_order(after: i64, events: &[Event]) -> Result<(), Failure> {
    let mut reached = after;
    for event in events {
        if event.pos != reached + 1 {
            return Err(Failure::Broken(format!("{} follows {reached}", event.pos)));
        }
        reached = event.pos;
    }
    Ok(())
}
