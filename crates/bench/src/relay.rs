//! How fast a relay hands events to the broker: `bench relay`.
//!
//! The same events from an outbox in PostgreSQL through a relay; by the bare client in confirmed batches of the same size;
//! and by the bare client one by one, each confirmed before the next. All on one private RabbitMQ with a quorum queue
//! behind the exchange, round by round.

use crate::events::Publisher;
use anyhow::{Context, ensure};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::json;
use sinew_core::{Clock, SharedRng, SystemClock};
use sinew_events::{Checkpoint, Publication, SqlCheckpoint, SubscriptionConfig};
use sinew_rabbitmq::Bus;
use std::{sync::Arc, time::Duration};
use testkit::{Durability, Postgres, RabbitMq, wait_for};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

const EXCHANGE: &str = "events";
const QUEUE: &str = "bench";

/// What a relay publishes at once.
const BATCH: usize = 500;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Events a round.
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// Events a round one by one.
    #[arg(long, default_value_t = 1_000)]
    one_by_one: usize,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure(args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let (postgres, broker) = (Postgres::start(Durability::Real).await?, RabbitMq::start().await?);
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), quorum).await?;
    channel.queue_bind(QUEUE.into(), EXCHANGE.into(), "#".into(), QueueBindOptions::default(), FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let (mut batched, mut single) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let publisher = Publisher::open(&postgres.database(&format!("publisher{round}"))?).await?;
        let relayed = relayed(&publisher, &broker, args.events).await?;
        purge(&channel).await?;
        let events = publisher.publication.read(0, BATCH).await?;
        let sizes: Vec<usize> = events.iter().map(|event| event.payload.len()).collect();
        let by_batch = raw(&channel, args.events, BATCH, &sizes).await?;
        purge(&channel).await?;
        let one_by_one = raw(&channel, args.one_by_one, 1, &sizes).await?;
        purge(&channel).await?;
        publisher.db.close().await;
        if !args.json {
            println!("round {round}: relay {relayed:.0}/s, bare client in batches {by_batch:.0}/s, one by one {one_by_one:.0}/s");
        }
        batched.push(relayed / by_batch);
        single.push(relayed / one_by_one);
    }
    let (batched, single) = (median(&mut batched)?, median(&mut single)?);
    if args.json {
        let held = batched >= 0.8 && single >= 5.0;
        println!("{}", json!({ "of_batches": batched, "of_one_by_one": single, "bounds": [0.8, 5.0], "held": held }));
    } else {
        println!("the relay: x {batched:.2} of confirmed batches (bound 0.8), x {single:.1} of one by one (bound 5)");
    }
    Ok(())
}

/// Events a second through a relay, whose outbox is full when it begins.
async fn relayed(publisher: &Publisher, broker: &RabbitMq, events: usize) -> anyhow::Result<f64> {
    for _ in 0..events / BATCH {
        publisher.tell(BATCH).await?;
    }
    while publisher.outbox.sequence(&publisher.db, 10_000).await? > 0 {}
    let wanted = i64::try_from(events / BATCH * BATCH)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let checkpoint = SqlCheckpoint::of_bus(publisher.db.clone(), "things", clock);
    let (publication, rng): (Arc<dyn Publication>, _) = (Arc::new(publisher.publication.clone()), Arc::new(SharedRng::from_os()));
    let relay = Bus::new(&broker.url(), "AMQP_URL")?.relay(
        ("things", "relay"),
        publication,
        Arc::new(checkpoint.clone()),
        SubscriptionConfig::default(),
        rng,
    );
    let (mut tasks, ending, began) = (JoinSet::new(), CancellationToken::new(), Instant::now());
    tasks.spawn(relay.run(ending.clone()));
    let position = "SELECT position FROM subscriptions WHERE consumer = 'bus'";
    wait_for("all events to be confirmed", Duration::from_secs(120), async || {
        let mut tx = publisher.db.snapshot().await.map_err(|e| e.to_string())?;
        let row = tx.q(position).opt::<(Option<i64>,)>().await.map_err(|e| e.to_string())?;
        if row.and_then(|(position,)| position) == Some(wanted) { Ok(()) } else { Err(format!("{row:?} of {wanted}")) }
    })
    .await?;
    let seconds = began.elapsed().as_secs_f64();
    ending.cancel();
    tasks.join_next().await.context("the relay")??;
    // Another relay may begin at once: the lease was given back.
    ensure!(checkpoint.claim("bench", Duration::from_secs(1)).await?.is_some(), "the lease was not given back");
    Ok(wanted as f64 / seconds)
}

/// Messages a second by the bare client: a batch is published, then all of it is confirmed.
async fn raw(channel: &Channel, messages: usize, batch: usize, sizes: &[usize]) -> anyhow::Result<f64> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let began = Instant::now();
    for first in (0..messages).step_by(batch) {
        let mut confirms = Vec::with_capacity(batch);
        for n in first..(first + batch).min(messages) {
            let payload = vec![b'x'; sizes.get(n % sizes.len().max(1)).copied().unwrap_or(100)];
            let properties = BasicProperties::default().with_delivery_mode(2);
            confirms.push(channel.basic_publish(EXCHANGE.into(), "things.thing.made".into(), options, &payload, properties).await?);
        }
        for confirm in confirms {
            ensure!(matches!(confirm.await?, Confirmation::Ack(None)), "not confirmed");
        }
    }
    Ok(messages as f64 / began.elapsed().as_secs_f64())
}

async fn purge(channel: &Channel) -> anyhow::Result<()> {
    channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await?;
    Ok(())
}

fn median(values: &mut [f64]) -> anyhow::Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("--rounds: at least one")
}
