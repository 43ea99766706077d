//! `sinew.events.v1.EventsService`: a publication, followed over the mesh.

use crate::{
    Event, Extent, Publication, PublicationError,
    envelope::{timestamp, wrap, wrap_owned},
};
use chrono::{DateTime, Utc};
use futures_util::{Stream, stream};
use sinew::Draining;
use sinew_core::Clock;
use sinew_proto::events::v1::{
    self as proto,
    events_service_server::{EventsService, EventsServiceServer},
};
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// The contract promises a response every second; sent a little earlier, it is not late when it arrives.
const HEARTBEAT: Duration = Duration::from_millis(800);

/// What the contract promises for a size of 0, and at most.
const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: usize = 1_000;

/// Payload in one response after which no more is added: well below the 4 MiB that clients take by default.
const MAX_BYTES: usize = 1 << 20;

/// Consumers that are remembered: there are as many as services, and whoever makes names up must not fill memory.
const MAX_CONSUMERS: usize = 100;

/// A publication as a gRPC service.
#[derive(Debug, Clone)]
pub struct EventsServer {
    source: Arc<str>,
    publication: Arc<dyn Publication>,
    clock: Arc<dyn Clock>,
    consumers: Arc<Mutex<BTreeMap<String, Sent>>>,
}

/// The last position sent to a consumer, and when.
type Sent = (i64, DateTime<Utc>);

impl EventsServer {
    /// The events of the service called `source`.
    pub fn new(source: &str, publication: Arc<dyn Publication>, clock: Arc<dyn Clock>) -> Self {
        Self { source: source.into(), publication, clock, consumers: Arc::default() }
    }

    /// The service, to be added to a server.
    pub fn service(&self) -> EventsServiceServer<Self> {
        EventsServiceServer::new(self.clone())
    }

    fn sent(&self, consumer: &str, position: i64) {
        let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        if consumers.len() < MAX_CONSUMERS || consumers.contains_key(consumer) {
            consumers.insert(consumer.to_owned(), (position, self.clock.now().into()));
        }
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<proto::SubscribeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EventsService for EventsServer {
    type SubscribeStream = Responses;

    async fn subscribe(&self, request: Request<proto::SubscribeRequest>) -> Result<Response<Responses>, Status> {
        let draining = request.extensions().get::<Draining>().cloned().unwrap_or_default();
        let request = request.into_inner();
        let size = size("batch_size", request.batch_size)?;
        if request.consumer.is_empty() || request.after < 0 {
            return Err(Status::invalid_argument("consumer must be named, and after not be negative"));
        }
        within(&self.publication.extent().await?, request.after)?;
        let following = Following {
            server: self.clone(),
            consumer: request.consumer,
            after: request.after,
            size,
            draining,
            heartbeat: Instant::now(),
            over: false,
        };
        let responses = stream::unfold(following, |mut following| async {
            let next = following.next().await?;
            following.over = next.is_err();
            Some((next, following))
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn snapshot(&self, request: Request<proto::SnapshotRequest>) -> Result<Response<proto::SnapshotResponse>, Status> {
        let request = request.into_inner();
        let size = size("page_size", request.page_size)?;
        let (position, after) = match &*request.page_token {
            // Read before the first page: what happens from now on is in the events after it, in the pages, or in both.
            "" => (self.publication.extent().await?.head, None),
            token => page_token(token).ok_or_else(|| Status::invalid_argument("page_token: none that was given here"))?,
        };
        let page = self.publication.owned().page(after, size).await?;
        // Whoever comes after a page that was not full is in the events after the position: else a busy publisher's
        // snapshot would never end.
        let next = page.last().filter(|_| page.len() >= size).map(|last| format!("{position}:{}", last.aggregate));
        let events = page.into_iter().map(|event| wrap_owned(&self.source, event)).collect();
        Ok(Response::new(proto::SnapshotResponse { events, position, next_page_token: next.unwrap_or_default() }))
    }

    async fn get_lag(&self, _: Request<proto::GetLagRequest>) -> Result<Response<proto::GetLagResponse>, Status> {
        let Extent { head, pending, .. } = self.publication.extent().await?;
        let consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = |(consumer, (sent, at)): (&String, &Sent)| proto::ConsumerLag {
            consumer: consumer.clone(),
            sent: *sent,
            sent_at: Some(timestamp(*at)),
        };
        Ok(Response::new(proto::GetLagResponse { head, pending, consumers: consumers.iter().map(lag).collect() }))
    }
}

/// One consumer's stream.
struct Following {
    server: EventsServer,
    consumer: String,
    after: i64,
    size: usize,
    draining: Draining,
    /// When to say something even if there is nothing to say.
    heartbeat: Instant,
    over: bool,
}

impl Following {
    /// The next response; after an error, the end.
    async fn next(&mut self) -> Option<Result<proto::SubscribeResponse, Status>> {
        if self.over {
            return None;
        }
        let draining = self.draining.clone();
        tokio::select! {
            biased;
            () = draining.begun() => Some(Err(Status::unavailable("the publisher is leaving"))),
            next = self.read() => Some(next),
        }
    }

    async fn read(&mut self) -> Result<proto::SubscribeResponse, Status> {
        let publication = self.server.publication.clone();
        loop {
            let changed = publication.changed();
            let events = publication.read(self.after, self.size).await?;
            let full = events.len() == self.size;
            if events.first().is_some_and(|first| first.pos != self.after + 1) {
                // What we were about to send has been forgotten meanwhile.
                within(&publication.extent().await?, self.after)?;
            }
            if let Some(last) = self.fitting(&events) {
                let head =
                    if full { publication.extent().await?.head.max(last.0) } else { events.last().map_or(last.0, |e| e.pos) };
                self.after = last.0;
                self.server.sent(&self.consumer, self.after);
                self.heartbeat = Instant::now() + HEARTBEAT;
                let events = events.into_iter().take(last.1).map(|event| wrap(&self.server.source, event)).collect();
                return Ok(proto::SubscribeResponse { events, head });
            }
            if Instant::now() >= self.heartbeat {
                // A store that lost its events must not look like one where nothing happens.
                let extent = publication.extent().await?;
                within(&extent, self.after)?;
                self.heartbeat = Instant::now() + HEARTBEAT;
                return Ok(proto::SubscribeResponse { events: Vec::new(), head: extent.head });
            }
            let _ = timeout(self.heartbeat - Instant::now(), changed).await;
        }
    }

    /// Position of the last event that one response takes, and how many it takes.
    fn fitting(&self, events: &[Event]) -> Option<(i64, usize)> {
        let mut bytes = 0;
        let fits = |event: &&Event| {
            let fits = bytes == 0 || bytes + event.payload.len() <= MAX_BYTES;
            bytes += event.payload.len();
            fits
        };
        let taken = events.iter().take_while(fits).count();
        events.get(taken.checked_sub(1)?).map(|last| (last.pos, taken))
    }
}

/// Whether all events after this position are there.
fn within(extent: &Extent, after: i64) -> Result<(), Status> {
    let Extent { floor, head, .. } = *extent;
    if (floor..=head).contains(&after) {
        return Ok(());
    }
    // Ahead of us is a consumer that followed a store which is no more: restored, or flushed.
    Err(Status::out_of_range(format!("events after {after} cannot be had, only after {floor} to {head}: take a snapshot")))
}

fn size(field: &str, size: i32) -> Result<usize, Status> {
    match usize::try_from(size) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) if size <= MAX_SIZE => Ok(size),
        _ => Err(Status::invalid_argument(format!("{field}: must be 0 to {MAX_SIZE}"))),
    }
}

fn page_token(token: &str) -> Option<(i64, Option<Uuid>)> {
    let (position, last) = token.split_once(':')?;
    Some((position.parse().ok().filter(|p| *p >= 0)?, Some(Uuid::try_parse(last).ok()?)))
}

impl From<PublicationError> for Status {
    fn from(error: PublicationError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "events cannot be read at the moment");
        Self::unavailable(error.to_string())
    }
}
