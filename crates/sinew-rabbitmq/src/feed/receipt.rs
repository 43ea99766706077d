//! What a subscription tells the broker about a batch.

use lapin::{
    Acker,
    options::{BasicAckOptions, BasicRejectOptions},
};
use sinew_core::BoxFuture;
use sinew_events::{Event, Receipt};
use uuid::Uuid;

/// The deliveries of a batch.
#[derive(Debug)]
pub(super) struct Delivered {
    /// Which event came with which delivery; one that came twice is in it twice.
    events: Vec<(Uuid, Acker)>,
    /// The last delivery of the batch, and what it was.
    last: Acker,
}

impl Delivered {
    pub(super) fn new(events: Vec<(Uuid, Acker)>, last: Acker) -> Self {
        Self { events, last }
    }
}

impl Receipt for Delivered {
    fn reject<'a>(&'a mut self, event: &'a Event) -> BoxFuture<'a, ()> {
        Box::pin(async {
            for (_, acker) in self.events.iter().filter(|(id, _)| *id == event.event_id) {
                reject(acker).await;
            }
        })
    }

    fn acknowledge(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // All up to the last one of the batch, which are those that were neither rejected nor acknowledged before. The
            // last one itself may have been rejected: then the one before it speaks for all.
            let last = if self.last.usable() { Some(&self.last) } else { None };
            let last = last.or_else(|| self.events.iter().rev().map(|(_, acker)| acker).find(|acker| acker.usable()));
            if let Some(last) = last {
                acknowledge(last).await;
            }
        })
    }
}

/// Tells the broker that this one and all before it are done with.
pub(super) async fn acknowledge(last: &Acker) {
    if let Err(error) = last.ack(BasicAckOptions { multiple: true }).await {
        tracing::debug!(%error, "a batch is not acknowledged; it comes again");
    }
}

/// Hands a message to the dead letters.
pub(super) async fn reject(acker: &Acker) {
    if let Err(error) = acker.reject(BasicRejectOptions { requeue: false }).await {
        tracing::debug!(%error, "a message is not rejected; it comes again");
    }
}
