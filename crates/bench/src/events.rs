//! How long an event takes from its commit to its effect: `bench events`, `bench events --broker`.
//!
//! A publisher and a consumer with a private PostgreSQL each (fsync on, as in production); between them the mesh's stream
//! over loopback, or a private RabbitMQ. Latency is from the commit's own time stamp, taken before it began, to the
//! consumer's transaction.

use hdrhistogram::Histogram;
use serde_json::json;
use sinew_core::{BoxFuture, Clock, SharedRng, SystemClock};
use sinew_events::{
    Event, EventsServer, Feed, MeshFeed, NewEvent, Outbox, Owned, Projection, ProjectionError, Publication, PublicationError,
    SqlCheckpoint, SqlPublication, Subscription, SubscriptionConfig,
};
use sinew_rabbitmq::Bus;
use sinew_sql::{DEFAULT_CONNECTIONS, Db, Tx, now};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use testkit::{Durability, Postgres, RabbitMq, wait_for};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What publisher and consumer are called.
const PUBLISHER: &str = "things";
const CONSUMER: &str = "copier";

/// The queue between them.
pub(crate) const QUEUE: &str = "copier.things";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Events a second, each in a transaction of its own.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Through RabbitMQ instead of the mesh.
    #[arg(long)]
    broker: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// A publisher with its own database.
pub(crate) struct Publisher {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) publication: SqlPublication,
}

/// Nothing but events: it owns nothing.
#[derive(Debug)]
struct Nothing;

impl Owned for Nothing {
    fn page(&self, _: Option<Uuid>, _: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// Notes how old events are.
struct Ages(Arc<Mutex<Histogram<u64>>>);

impl Projection for Ages {
    fn apply<'a>(&'a self, _: &'a mut Tx, event: &'a Event) -> BoxFuture<'a, Result<(), ProjectionError>> {
        let age = now(&SystemClock) - event.occurred_at;
        let micros = age.num_microseconds().and_then(|us| u64::try_from(us).ok()).unwrap_or(0).max(1);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl fmt::Debug for Ages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ages")
    }
}

impl Publisher {
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let db = Db::open(url, DEFAULT_CONNECTIONS).await?;
        db.migrate(&sinew_events::migrations()).await?;
        let outbox = Outbox::default();
        let publication = SqlPublication::new(db.clone(), outbox.clone(), Arc::new(Nothing));
        Ok(Self { db, outbox, publication })
    }

    /// So many events in one transaction.
    pub(crate) async fn tell(&self, events: usize) -> anyhow::Result<()> {
        let time = now(&SystemClock);
        let mut tx = self.db.begin().await?;
        for _ in 0..events {
            let payload = "a hundred bytes of what happened, more or less: what events of a shop have, in a field".to_owned();
            self.outbox.append(&mut tx, NewEvent::new(Uuid::now_v7(), 1, "thing.made", &payload, time)).await?;
        }
        Ok(tx.commit().await?)
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure(args))
}

/// A publisher and a consumer at work, and what is between them.
pub(crate) struct Line {
    pub(crate) publisher: Arc<Publisher>,
    consumer: Db,
    ending: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Line {
    /// By the broker where there is one, else over the mesh. `schema` makes the tables that `projection` writes.
    pub(crate) async fn open(
        postgres: &Postgres,
        broker: Option<&RabbitMq>,
        projection: Arc<dyn Projection>,
        schema: &[&'static str],
    ) -> anyhow::Result<Self> {
        let publisher = Arc::new(Publisher::open(&postgres.database("publisher")?).await?);
        let consumer = Db::open(&postgres.database("consumer")?, DEFAULT_CONNECTIONS).await?;
        consumer.migrate(&sinew_events::migrations()).await?;
        for sql in schema {
            for db in [&publisher.db, &consumer] {
                let mut tx = db.begin().await?;
                tx.q(*sql).run().await?;
                tx.commit().await?;
            }
        }
        let (clock, rng): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Arc::new(SharedRng::from_os()));

        let mut tasks = JoinSet::new();
        let numbering = publisher.clone();
        tasks.spawn(async move { numbering.publication.run(&SystemClock, &SharedRng::from_os()).await });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let events = EventsServer::new(PUBLISHER, Arc::new(publisher.publication.clone()), clock.clone());
        let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        tasks.spawn(async move {
            let _ = tonic::transport::Server::builder().add_service(events.service()).serve_with_incoming(incoming).await;
        });
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect().await?;
        let mut feed: Arc<dyn Feed> = Arc::new(MeshFeed::new(channel));
        let ending = CancellationToken::new();
        if let Some(broker) = broker {
            let bus = Bus::new(&broker.url(), "AMQP_URL")?;
            let checkpoint = Arc::new(SqlCheckpoint::of_bus(publisher.db.clone(), PUBLISHER, clock.clone()));
            let publication: Arc<dyn Publication> = Arc::new(publisher.publication.clone());
            let config = SubscriptionConfig::default();
            let relay = bus.relay((PUBLISHER, "relay"), publication, checkpoint, config, rng.clone());
            tasks.spawn(relay.run(ending.clone()));
            feed = Arc::new(bus.feed(PUBLISHER, feed));
        }
        let (who, config) = ((CONSUMER, PUBLISHER, CONSUMER), SubscriptionConfig::default());
        let subscription = Subscription::new(who, consumer.clone(), feed, projection, config, (clock, rng));
        tasks.spawn(subscription.run(ending.clone()));
        Ok(Self { publisher, consumer, ending, _tasks: tasks })
    }

    /// Why the consumer does not get on, if it does not.
    pub(crate) async fn trouble(&self) -> anyhow::Result<Option<String>> {
        let mut tx = self.consumer.snapshot().await?;
        let row = tx.q("SELECT trouble FROM subscriptions").opt::<(Option<String>,)>().await?;
        Ok(row.and_then(|(trouble,)| trouble))
    }

    /// Waits until the consumer has taken the snapshot: what is told from then on comes as an event.
    pub(crate) async fn followed(&self) -> anyhow::Result<()> {
        wait_for("the consumer's first position", Duration::from_secs(60), async || {
            let mut tx = self.consumer.snapshot().await.map_err(|e| e.to_string())?;
            let row = tx.q("SELECT position FROM subscriptions").opt::<(Option<i64>,)>().await.map_err(|e| e.to_string())?;
            if matches!(row, Some((Some(_),))) { Ok(()) } else { Err(format!("{row:?}")) }
        })
        .await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let postgres = Postgres::start(Durability::Real).await?;
    let broker = if args.broker { Some(RabbitMq::start().await?) } else { None };
    let ages = Arc::new(Mutex::new(Histogram::new_with_bounds(1, 600_000_000, 3)?));
    let line = Line::open(&postgres, broker.as_ref(), Arc::new(Ages(ages.clone())), &[]).await?;
    let publisher = &line.publisher;

    let seen = |wanted: u64, what: &'static str| {
        let ages = ages.clone();
        async move {
            wait_for(what, Duration::from_secs(60), async || {
                let seen = ages.lock().unwrap_or_else(PoisonError::into_inner).len();
                if seen >= wanted { Ok(()) } else { Err(format!("{seen} of {wanted}")) }
            })
            .await
        }
    };
    // What is told before the consumer follows is in its snapshot.
    let began = wait_for("the first event", Duration::from_secs(60), async || {
        publisher.tell(1).await.map_err(|e| e.to_string())?;
        if ages.lock().unwrap_or_else(PoisonError::into_inner).is_empty() { Err("nothing is delivered".to_owned()) } else { Ok(()) }
    });
    began.await?;
    ages.lock().unwrap_or_else(PoisonError::into_inner).reset();
    let (start, mut told) = (Instant::now(), JoinSet::new());
    for n in 0..args.seconds * args.rate {
        sleep_until(start + Duration::from_secs(1) * n / args.rate).await;
        let publisher = publisher.clone();
        told.spawn(async move { publisher.tell(1).await });
    }
    let mut committed = 0;
    while let Some(done) = told.join_next().await {
        committed += u64::from(done?.is_ok());
    }
    let seconds = start.elapsed().as_secs_f64();
    seen(committed, "all events").await?;
    let ages = ages.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ms = |q: f64| ages.value_at_quantile(q) as f64 / 1_000.0;
    let (p50, p99, max) = (ms(0.5), ms(0.99), ages.max() as f64 / 1_000.0);
    let (by, rate) = (if args.broker { "RabbitMQ" } else { "the mesh" }, committed as f64 / seconds);
    if args.json {
        let row =
            json!({ "by": by, "rate": rate, "p50_ms": p50, "p99_ms": p99, "max_ms": max, "bound": 100.0, "held": p99 <= 100.0 });
        println!("{row}");
    } else {
        println!(
            "{committed} events by {by} at {rate:.0}/s: p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms (bound: p99 100 ms)"
        );
    }
    Ok(())
}
