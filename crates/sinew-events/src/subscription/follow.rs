//! One turn of a subscription: the snapshot, or a stream of batches until it ends.

use super::Subscription;
use crate::{Batch, Event, FeedError, Lease, ProjectionError, Receipt, checkpoint::Step, feed::Page};
use futures_util::StreamExt;
use sinew_core::{
    Context,
    context::scope,
    failpoint, planted,
    trace::{OpenSpan, SpanKind, TraceContext},
};
use sinew_sql::{Tx, retry};
use std::{collections::HashSet, ops::ControlFlow, sync::atomic::Ordering::Relaxed};
use tokio::time::sleep;
use uuid::Uuid;

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
                self.begin_anew(lease).await
            }
            Err(failure) => Turn::Failed(failure),
        }
    }

    /// Forgets the position, durably: from now on a broker's queue may be made anew, and whoever goes on after a crash must
    /// not take that for the one that was followed.
    async fn begin_anew(&self, lease: &mut Lease) -> Turn {
        let anew = Lease { position: None, ..*lease };
        match self.take(anew, 0, &[], Happened::No).await {
            Ok(Taken::Yes { .. }) => {
                *lease = anew;
                Turn::Again
            }
            Ok(Taken::Fenced) => Turn::Lost,
            Err(error) => Turn::Failed(error.into()),
        }
    }

    /// Takes everything the publisher owns, page by page. Begun anew after a crash: repeating it is harmless.
    async fn snapshot(&self, lease: &mut Lease) -> Result<Turn, Failure> {
        let mut token = None;
        loop {
            let Page { events, position, next } = self.feed.page(&self.name.consumer, token.as_deref()).await?;
            let reached = next.is_none().then_some(position);
            let to = Lease { position: reached, floor: reached.unwrap_or(lease.floor), ..*lease };
            let Taken::Yes { applied, .. } = self.take(to, position, &events, Happened::No).await? else {
                return Ok(Turn::Lost);
            };
            self.meter.applied.fetch_add(applied, Relaxed);
            token = next;
            if token.is_none() {
                self.meter.snapshots.fetch_add(1, Relaxed);
                tracing::info!(publisher = self.name.publisher, position, "snapshot taken");
                *lease = to;
                return Ok(Turn::Again);
            }
        }
    }

    /// Follows until the stream ends.
    async fn batches(&self, lease: &mut Lease) -> Result<Turn, Failure> {
        let mut batches = self.feed.follow(&self.name.consumer, lease.position.unwrap_or_default()).await?;
        while let Some(batch) = batches.next().await {
            let Batch { events, head, receipt } = batch?;
            self.tenure.well(lease.epoch).await;
            let done = match receipt {
                None => self.gapless(lease, events, head).await?,
                Some(receipt) => self.acknowledged(lease, events, head, receipt).await,
            };
            if let ControlFlow::Break(turn) = done {
                return Ok(turn);
            }
        }
        Ok(Turn::Again)
    }

    /// Events in order and without a gap. One that cannot be read ends the turn, and comes again.
    async fn gapless(&self, lease: &mut Lease, mut events: Vec<Event>, head: i64) -> Result<ControlFlow<Turn>, Failure> {
        let after = lease.position.unwrap_or_default();
        events.retain(|event| event.pos > after);
        in_order(after, &events)?;
        let broken = match self.advance(lease, &events, head).await {
            Ok(true) => return Ok(ControlFlow::Continue(())),
            Ok(false) => return Ok(ControlFlow::Break(Turn::Lost)),
            Err(ProjectionError::Malformed { position, .. }) if position > after + 1 => position,
            Err(error) => return Err(error.into()),
        };
        // What came before it must not wait with it.
        events.retain(|event| event.pos < broken);
        let ours = self.advance(lease, &events, head).await?;
        Ok(ControlFlow::Break(if ours { Turn::Again } else { Turn::Lost }))
    }

    /// Events of a broker: out of place after a fault, some again, some put aside. What the snapshot told of is passed
    /// over; the inbox and the aggregates' versions sort out the rest.
    async fn acknowledged(
        &self,
        lease: &mut Lease,
        mut events: Vec<Event>,
        head: i64,
        mut receipt: Box<dyn Receipt>,
    ) -> ControlFlow<Turn> {
        events.retain(|event| event.pos > lease.floor);
        let mut rest = &*events;
        while let Some((taken, unreadable)) = self.take_readable(lease, rest, head).await {
            let Some((event, others)) = rest.get(taken..).and_then(<[Event]>::split_first) else {
                failpoint!("events.take.before_acknowledge");
                receipt.acknowledge().await;
                return ControlFlow::Continue(());
            };
            let why = unreadable.map(|error| error.to_string());
            tracing::error!(publisher = self.name.publisher, event = %event.event_id, why, "put aside: see `sinew events dlq`");
            self.meter.rejected.fetch_add(1, Relaxed);
            receipt.reject(event).await;
            rest = others;
        }
        ControlFlow::Break(Turn::Lost)
    }

    /// Takes events up to the first that cannot be read, and answers how many, and why no more; none when the subscription
    /// is another's. Waits for a store that cannot answer, with the batch in hand: each time a broker gets one back, its
    /// events come nearer to being put aside.
    async fn take_readable(&self, lease: &mut Lease, events: &[Event], head: i64) -> Option<(usize, Option<ProjectionError>)> {
        let (mut readable, mut why, mut failures) = (events, None, 0);
        loop {
            let error = match self.advance(lease, readable, head).await {
                Ok(ours) => return ours.then_some((readable.len(), why)),
                Err(error) => error,
            };
            let broken = match &error {
                ProjectionError::Malformed { position, .. } => readable.iter().position(|event| event.pos == *position),
                ProjectionError::Store(_) => None,
            };
            match broken.and_then(|at| readable.get(..at)) {
                Some(before) => (readable, why) = (before, Some(error)),
                None => {
                    failures += 1;
                    self.tell(lease, &Failure::Projection(error)).await;
                    sleep(self.tenure.backoff(failures)).await;
                }
            }
        }
    }

    /// Takes events that happened; false when the subscription is another's.
    async fn advance(&self, lease: &mut Lease, events: &[Event], head: i64) -> Result<bool, ProjectionError> {
        let before = lease.position.unwrap_or_default();
        let Some(last) = events.last() else {
            self.meter.at(before, head);
            return Ok(true);
        };
        // What a broker delivers late must not take the position back.
        let reached = events.iter().map(|event| event.pos).fold(before, i64::max);
        let to = Lease { position: Some(reached), ..*lease };
        let Taken::Yes { applied, repeated } = self.take(to, head, events, Happened::Yes).await? else {
            return Ok(false);
        };
        *lease = to;
        self.meter.applied.fetch_add(applied, Relaxed);
        self.meter.repeated.fetch_add(repeated, Relaxed);
        self.meter.at(reached, head);
        self.meter.delayed(last.occurred_at, self.now());
        Ok(true)
    }

    /// The events' effects, the notes that they took effect, and where that gets the subscription: one transaction.
    async fn take(&self, to: Lease, head: i64, events: &[Event], happened: Happened) -> Result<Taken, ProjectionError> {
        retry(|| async {
            let now = self.now();
            let mut tx = self.db.begin().await?;
            let Lease { epoch, position, floor } = to;
            let step = Step { position, floor, head: head.max(position.unwrap_or_default()), now };
            let ours = self.checkpoint.advance_in(&mut tx, epoch, step, self.tenure.lease()).await?;
            if !ours && !planted!(FollowerWithoutFence) {
                return Ok(Taken::Fenced);
            }
            planted!(PositionBeforeEffects => { tx.commit().await?; tx = self.db.begin().await?; });
            let mut repeated = 0;
            let mut new = HashSet::new();
            if happened == Happened::Yes {
                let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
                new = self.inbox.first_times(&mut tx, &ids, now).await?;
            }
            let mut due = Vec::with_capacity(events.len());
            for event in events {
                // One that is in the batch twice is new once.
                let known = happened == Happened::Yes && !new.remove(&event.event_id);
                if known && !planted!(NoInbox) {
                    repeated += 1;
                } else {
                    due.push(event);
                }
            }
            self.apply(&mut tx, &due).await?;
            let applied = due.len() as u64;
            failpoint!("events.take.before_commit");
            tx.commit().await?;
            failpoint!("events.take.after_commit");
            Ok(Taken::Yes { applied, repeated })
        })
        .await
    }

    /// The events' effects: all at once where that is cheaper.
    async fn apply(&self, tx: &mut Tx, events: &[&Event]) -> Result<(), ProjectionError> {
        if events.len() > 1
            && let Some(all) = self.projection.apply_all(tx, events)
        {
            let spans: Vec<_> = events.iter().filter_map(|event| Some((*event, self.open(cause(event)?)?))).collect();
            let done = all.await;
            spans.into_iter().for_each(|(event, span)| self.end(span, event, &done));
            return done;
        }
        for event in events {
            let done = self.apply_one(tx, event).await;
            planted!(UnreadablePassedOver => if let Err(ProjectionError::Malformed { .. }) = done { continue });
            done?;
        }
        Ok(())
    }

    /// One event's effect, as part of the trace of what caused it.
    async fn apply_one(&self, tx: &mut Tx, event: &Event) -> Result<(), ProjectionError> {
        let Some(cause) = cause(event) else { return self.projection.apply(tx, event).await };
        let span = self.open(cause);
        let trace = span.as_ref().map_or(cause, OpenSpan::context);
        let context = Context { trace: Some(trace), ..Context::default() };
        let done = scope(context, self.projection.apply(tx, event)).await;
        if let Some(span) = span {
            self.end(span, event, &done);
        }
        done
    }

    /// The span of an event's effect, below what caused the event.
    fn open(&self, cause: TraceContext) -> Option<OpenSpan> {
        OpenSpan::below(cause, self.now().into(), &*self.rng)
    }

    fn end(&self, span: OpenSpan, event: &Event, done: &Result<(), ProjectionError>) {
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
}

/// What caused the event.
fn cause(event: &Event) -> Option<TraceContext> {
    event.traceparent.as_deref().and_then(TraceContext::parse)
}

/// A gap is never passed over: it would be lost for good.
fn in_order(after: i64, events: &[Event]) -> Result<(), Failure> {
    planted!(GapPassedOver => return Ok(()));
    let mut reached = after;
    for event in events {
        if event.pos != reached + 1 {
            return Err(Failure::Broken(format!("{} follows {reached}", event.pos)));
        }
        reached = event.pos;
    }
    Ok(())
}
