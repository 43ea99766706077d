//! Deliveries gathered into batches.

use super::{
    receipt::{Delivered, acknowledge, reject},
    silence::Silence,
};
use crate::{
    BusError,
    bus::Session,
    message::{Content, read},
};
use futures_util::{Stream, StreamExt, stream};
use lapin::{Acker, Channel, Consumer, message::Delivery};
use sinew_core::{BoxFuture, planted, stats::Registry};
use sinew_events::{Batch, Batches, Event, Feed, FeedError};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

/// Events per batch: as many as a relay publishes at once. A batch is one transaction.
const MOST: usize = 500;

/// Payload after which a batch takes no more: what a page over the mesh may hold.
const MOST_BYTES: usize = 1 << 20;

/// What comes within 5 ms shares a transaction; nobody notices the wait.
const GATHER: Duration = Duration::from_millis(5);

/// How often the publisher is asked how far it is, as often as it would say so over the mesh.
const ASK: Duration = Duration::from_millis(800);

/// One consumer's deliveries, over one connection.
pub(super) struct Deliveries {
    consumer: Consumer,
    publisher: String,
    owner: Arc<dyn Feed>,
    /// Up to here all is known; a message that says that older ones are forgotten says nothing new then.
    after: i64,
    /// The newest position that was delivered.
    reached: i64,
    /// The newest position that the publisher told of.
    head: i64,
    /// The publisher, being asked; with what was reached when the question was put.
    asking: BoxFuture<'static, (i64, Option<i64>)>,
    /// Since when nothing came; none while a batch is in the consumer's hands.
    silent_since: Option<Instant>,
    silence: Silence,
    /// What ends the stream, told when the batch before it is.
    ended: Option<FeedError>,
    over: bool,
    meter: Meter,
    _channel: Channel,
    _session: Session,
}

struct Meter {
    redelivered: Arc<AtomicU64>,
    rejected: Arc<AtomicU64>,
}

/// A batch in the making.
#[derive(Default)]
struct Gathered {
    events: Vec<Event>,
    ackers: Vec<(Uuid, Acker)>,
    last: Option<Acker>,
    bytes: usize,
}

impl Deliveries {
    pub(super) fn new(
        (session, channel, consumer): (Session, Channel, Consumer),
        (name, publisher): (&str, &str),
        owner: Arc<dyn Feed>,
        (after, head): (i64, Option<i64>),
        silence: Silence,
    ) -> Self {
        let registry = Registry::global();
        let labels = || vec![("consumer", name.to_owned()), ("publisher", publisher.to_owned())];
        let meter = Meter {
            redelivered: registry.counter("events_redelivered_total", labels()),
            rejected: registry.counter("events_rejected_total", labels()),
        };
        let head = head.unwrap_or(after).max(after);
        Self {
            consumer,
            publisher: publisher.to_owned(),
            asking: ask(owner.clone(), after),
            owner,
            after,
            reached: after,
            head,
            silent_since: None,
            silence,
            ended: None,
            over: false,
            meter,
            _channel: channel,
            _session: session,
        }
    }

    /// Batches until an error.
    pub(super) fn batches(self) -> Batches {
        let batches = stream::unfold(self, |mut deliveries| async {
            if deliveries.over {
                return None;
            }
            let batch = deliveries.next().await;
            deliveries.over = batch.is_err();
            Some((batch, deliveries))
        });
        Box::pin(batches) as Pin<Box<dyn Stream<Item = _> + Send>>
    }

    async fn next(&mut self) -> Result<Batch, FeedError> {
        if let Some(ended) = self.ended.take() {
            return Err(ended);
        }
        let silent_since = *self.silent_since.get_or_insert_with(Instant::now);
        let mut gathered = Gathered::default();
        let mut deadline: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                (reached, head) = &mut self.asking => {
                    self.asking = ask(self.owner.clone(), self.reached);
                    let Some(head) = head else { continue };
                    if reached > head {
                        return Err(FeedError::OutOfRange);
                    }
                    self.head = self.head.max(head);
                    if gathered.last.is_none() {
                        if self.reached == self.head {
                            self.silent_since = None;
                        } else if self.silence.lasts(silent_since.elapsed()) {
                            return Err(BusError::NothingDelivered { reached: self.reached, head: self.head }.into());
                        } else if self.silence.is_told() {
                            // A word from us would be taken for a sign that all is well again.
                            continue;
                        }
                        return Ok(Batch { events: Vec::new(), head: self.head, receipt: None });
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break,
                delivery = self.consumer.next() => {
                    let delivery = match delivery {
                        Some(Ok(delivery)) => delivery,
                        Some(Err(error)) => return Err(BusError::from(error).into()),
                        None => return Err(BusError::Broken("the queue was deleted".into()).into()),
                    };
                    deadline.get_or_insert_with(|| Instant::now() + GATHER);
                    if let Some(ended) = self.take(delivery, &mut gathered).await {
                        self.ended = Some(ended);
                        break;
                    }
                    if gathered.events.len() >= MOST || gathered.bytes >= MOST_BYTES {
                        break;
                    }
                }
            }
        }
        self.silent_since = None;
        let Gathered { events, mut ackers, last, .. } = gathered;
        planted!(AckBeforeCommit => if let Some(last) = &last { ackers.clear(); acknowledge(last).await });
        let receipt = last.map(|last| Box::new(Delivered::new(ackers, last)) as _);
        self.head = self.head.max(self.reached);
        Ok(Batch { events, head: self.head, receipt })
    }

    /// Adds a delivery to the batch; answers what ends the stream after it, if anything does.
    async fn take(&mut self, delivery: Delivery, gathered: &mut Gathered) -> Option<FeedError> {
        let Delivery { properties, data, acker, redelivered, .. } = delivery;
        self.meter.redelivered.fetch_add(u64::from(redelivered), Relaxed);
        let bytes = data.len();
        match read(&properties, data) {
            Ok(Content::Event(event)) => {
                self.reached = self.reached.max(event.pos);
                self.silence.broken(true);
                gathered.bytes += bytes;
                gathered.ackers.push((event.event_id, acker.clone()));
                gathered.events.push(event);
            }
            Ok(Content::Forgotten(up_to)) if up_to > self.after => {
                // It stays in the queue: after the snapshot, which reaches beyond it, it says nothing new.
                return Some(FeedError::OutOfRange);
            }
            Ok(Content::Forgotten(_)) => {}
            Err(why) => {
                let (publisher, id) = (&self.publisher, properties.message_id().as_ref().map(ToString::to_string));
                tracing::error!(publisher, id, why, "a message is no event: put aside, see `sinew events dlq`");
                self.meter.rejected.fetch_add(1, Relaxed);
                self.silence.broken(false);
                reject(&acker).await;
                return None;
            }
        }
        gathered.last = Some(acker);
        None
    }
}

/// Asks the publisher how far it is, after a while.
fn ask(owner: Arc<dyn Feed>, reached: i64) -> BoxFuture<'static, (i64, Option<i64>)> {
    Box::pin(async move {
        sleep(ASK).await;
        (reached, owner.head().await.ok().flatten())
    })
}
