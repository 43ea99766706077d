//! The port to another service's events, and the transport without a broker: a stream over the mesh.

use crate::{
    Event,
    envelope::{EnvelopeError, unwrap},
};
use futures_util::{Stream, StreamExt};
use sinew_core::BoxFuture;
use sinew_proto::events::v1::{GetLagRequest, SnapshotRequest, SubscribeRequest, events_service_client::EventsServiceClient};
use std::{fmt, pin::Pin, time::Duration};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
};

/// The contract promises a response every second; a stream that is silent for 3 s is dead, whatever TCP says.
const SILENCE: Duration = Duration::from_secs(3);

/// A page is one query and a few hundred rows; 10 s is the mesh's own default.
const PAGE: Duration = Duration::from_secs(10);

/// Aggregates per page.
const PAGE_SIZE: i32 = 500;

/// Why events do not come.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Those after the position are no longer kept, or the publisher is behind it: the snapshot has to be taken.
    #[error("the publisher no longer has all events after the position")]
    OutOfRange,
    /// The publisher cannot be reached, or ended the stream.
    #[error("the publisher does not send events: {}", .0.message())]
    Unavailable(#[source] Box<Status>),
    /// It sent nothing for too long.
    #[error("the publisher is silent")]
    Silent,
    /// What it sent breaks the contract.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The broker in between does not deliver.
    #[error(transparent)]
    Broker(Box<dyn std::error::Error + Send + Sync>),
}

/// Some events, none to show that the publisher lives.
#[derive(Debug, Default)]
pub struct Batch {
    /// In order of position and without a gap, unless there is a receipt.
    pub events: Vec<Event>,
    /// The newest position there is.
    pub head: i64,
    /// From a broker, which keeps the events until it is told what became of them. It may have put others aside before,
    /// and may bring these again or, after a fault, out of their place.
    pub receipt: Option<Box<dyn Receipt>>,
}

/// Tells a broker what became of a batch. Dropped, it tells nothing, and the batch comes again.
///
/// A call that does not reach the broker is no error: the events come again.
pub trait Receipt: fmt::Debug + Send {
    /// This event of the batch cannot be read: it is put aside, for people to look at.
    fn reject<'a>(&'a mut self, event: &'a Event) -> BoxFuture<'a, ()>;

    /// All others took effect, and that is committed.
    fn acknowledge(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A page of everything the publisher owns.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// In order of aggregate; their position is 0.
    pub events: Vec<Event>,
    /// Where to follow from after the last page.
    pub position: i64,
    /// The next page; none after the last.
    pub next: Option<String>,
}

/// Batches until an error.
pub type Batches = Pin<Box<dyn Stream<Item = Result<Batch, FeedError>> + Send>>;

/// Another service's events.
///
/// # Cancel safety
///
/// Both methods, and the stream, only read: dropped at any place they leave nothing behind.
pub trait Feed: fmt::Debug + Send + Sync + 'static {
    /// Follows from after this position, for the consumer of this name.
    fn follow<'a>(&'a self, consumer: &'a str, after: i64) -> BoxFuture<'a, Result<Batches, FeedError>>;

    /// One page of the snapshot; the first without a token.
    fn page<'a>(&'a self, consumer: &'a str, token: Option<&'a str>) -> BoxFuture<'a, Result<Page, FeedError>>;

    /// The publisher's newest position, asked of itself; none where it cannot be asked.
    fn head(&self) -> BoxFuture<'_, Result<Option<i64>, FeedError>> {
        Box::pin(async { Ok(None) })
    }
}

/// Events streamed by their publisher.
#[derive(Debug, Clone)]
pub struct MeshFeed<T>(EventsServiceClient<T>);

impl<T> MeshFeed<T>
where
    T: GrpcService<Body, ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static>,
{
    /// Of the service behind this channel.
    pub fn new(channel: T) -> Self {
        Self(EventsServiceClient::new(channel))
    }
}

impl<T> Feed for MeshFeed<T>
where
    T: GrpcService<Body, ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static, Future: Send>
        + fmt::Debug
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn follow<'a>(&'a self, consumer: &'a str, after: i64) -> BoxFuture<'a, Result<Batches, FeedError>> {
        let mut client = self.0.clone();
        Box::pin(async move {
            let request = SubscribeRequest { consumer: consumer.to_owned(), after, batch_size: 0 };
            let responses = timeout(SILENCE, client.subscribe(request)).await.map_err(|_| FeedError::Silent)??.into_inner();
            let batches = futures_util::stream::unfold(Some(responses), |responses| async {
                let mut responses = responses?;
                let batch = match timeout(SILENCE, responses.next()).await {
                    Err(_) => Err(FeedError::Silent),
                    Ok(None) => Err(Status::unavailable("the stream ended").into()),
                    Ok(Some(Err(status))) => Err(status.into()),
                    Ok(Some(Ok(response))) => {
                        let events: Result<_, _> = response.events.into_iter().map(unwrap).collect();
                        events.map(|events| Batch { events, head: response.head, receipt: None }).map_err(FeedError::from)
                    }
                };
                let rest = batch.is_ok().then_some(responses);
                Some((batch, rest))
            });
            Ok(Box::pin(batches) as Batches)
        })
    }

    fn page<'a>(&'a self, consumer: &'a str, token: Option<&'a str>) -> BoxFuture<'a, Result<Page, FeedError>> {
        let mut client = self.0.clone();
        Box::pin(async move {
            let (consumer, page_token) = (consumer.to_owned(), token.unwrap_or_default().to_owned());
            let mut request = Request::new(SnapshotRequest { consumer, page_size: PAGE_SIZE, page_token });
            request.set_timeout(PAGE);
            let page = timeout(PAGE, client.snapshot(request)).await.map_err(|_| FeedError::Silent)??.into_inner();
            let events = page.events.into_iter().map(unwrap).collect::<Result<_, _>>()?;
            Ok(Page { events, position: page.position, next: Some(page.next_page_token).filter(|t| !t.is_empty()) })
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<i64>, FeedError>> {
        let mut client = self.0.clone();
        Box::pin(async move {
            let lag = timeout(SILENCE, client.get_lag(GetLagRequest {})).await.map_err(|_| FeedError::Silent)??;
            Ok(Some(lag.into_inner().head))
        })
    }
}

impl From<Status> for FeedError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::OutOfRange => Self::OutOfRange,
            _ => Self::Unavailable(Box::new(status)),
        }
    }
}
