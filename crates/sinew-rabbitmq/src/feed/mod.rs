//! A publisher's events from the broker, and everything it owns from itself.

mod deliveries;
mod receipt;
mod silence;

use crate::{Bus, BusError, bus::answered, topology, topology::Names};
use deliveries::Deliveries;
use lapin::{
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use silence::Silence;
use sinew_core::{BoxFuture, planted};
use sinew_events::{Batches, Feed, FeedError, Page};
use std::sync::Arc;

/// Messages in hand at most: two batches, so that the next one is here while one is taken.
const PREFETCH: u16 = 1_000;

/// A publisher's events, through the broker.
///
/// The queue is there before the first page of a snapshot is asked for, and keeps what happens from then on. A queue that
/// is missing when it should be followed (a new broker, one that lost its data, one that was not used before) is made, and
/// the snapshot is taken again: whatever it did not keep is in that.
#[derive(Debug)]
pub struct BusFeed {
    bus: Bus,
    publisher: String,
    owner: Arc<dyn Feed>,
    silence: Silence,
}

impl BusFeed {
    pub(crate) fn new(bus: Bus, publisher: &str, owner: Arc<dyn Feed>) -> Self {
        Self { bus, publisher: publisher.to_owned(), owner, silence: Silence::default() }
    }

    async fn try_follow(&self, consumer: &str, after: i64) -> Result<Deliveries, FeedError> {
        // One that is ahead of its publisher followed a store that is no more. A publisher that is away does not matter:
        // that is what a broker is for.
        let head = self.owner.head().await.ok().flatten();
        if head.is_some_and(|head| after > head) {
            return Err(FeedError::OutOfRange);
        }
        let names = Names::new(consumer, &self.publisher);
        let session = self.bus.connect(&format!("{consumer} follows {}", self.publisher)).await?;
        let consume = async {
            planted!(QueueMadeAnew => topology::queues(&session.channel().await?, &names).await?);
            // It is made for the snapshot only. Made here, one that is deleted at this moment would come back without what
            // was told in between, and nobody would know.
            if !topology::exists(&session, &names.queue).await? {
                return Ok(None);
            }
            let channel = session.channel().await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let queue = topology::short("a queue's name", &names.queue)?;
            let deliveries = channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
            Ok(Some((channel, deliveries)))
        };
        let Some((channel, deliveries)) = answered("the consumer's queue", consume).await? else {
            tracing::warn!(queue = names.queue, "the queue was not there; taking a snapshot");
            return Err(FeedError::OutOfRange);
        };
        let (names, connected) = ((consumer, self.publisher.as_str()), (session, channel, deliveries));
        Ok(Deliveries::new(connected, names, self.owner.clone(), (after, head), self.silence.clone()))
    }
}

impl Feed for BusFeed {
    fn follow<'a>(&'a self, consumer: &'a str, after: i64) -> BoxFuture<'a, Result<Batches, FeedError>> {
        Box::pin(async move { Ok(self.try_follow(consumer, after).await?.batches()) })
    }

    fn page<'a>(&'a self, consumer: &'a str, token: Option<&'a str>) -> BoxFuture<'a, Result<Page, FeedError>> {
        Box::pin(async move {
            if token.is_none() {
                let (names, bus) = (Names::new(consumer, &self.publisher), &self.bus);
                let session = bus.connect(&format!("{consumer} begins to follow {}", self.publisher)).await?;
                let declare = async { topology::queues(&session.channel().await?, &names).await };
                answered("the consumer's queue", declare).await?;
            }
            self.owner.page(consumer, token).await
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<i64>, FeedError>> {
        self.owner.head()
    }
}

impl From<BusError> for FeedError {
    fn from(error: BusError) -> Self {
        Self::Broker(Box::new(error))
    }
}
