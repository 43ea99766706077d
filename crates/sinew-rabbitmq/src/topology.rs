//! Exchange and queues, declared by whoever needs them: repeating a declaration changes nothing.

use crate::{
    BusError,
    bus::Session,
    error::{declaring, is_locked, is_not_found},
};
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

/// Where all events go: a topic exchange, with `<publisher>.<kind>` as routing key.
pub(crate) const EXCHANGE: &str = "events";

/// How often a message comes again before it is put aside. It counts each consumer that went away with it in hand, so
/// restarts and lost connections count; 20, the default of RabbitMQ 4, is far above what those add up to for one message,
/// and ends one that kills whoever reads it.
const DELIVERY_LIMIT: i64 = 20;

/// For dead letters: looking at them counts as a delivery, and RabbitMQ 4 would throw them away after 20. Older ones know
/// no way to say "without limit".
const NEVER: i64 = 1_000_000_000;

/// The queues of one consumer of one publisher.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) publisher: String,
    /// `order.user`.
    pub(crate) queue: String,
    /// `order.user.dlq`.
    pub(crate) dead_letters: String,
}

impl Names {
    pub(crate) fn new(consumer: &str, publisher: &str) -> Self {
        let queue = format!("{consumer}.{publisher}");
        Self { publisher: publisher.to_owned(), dead_letters: format!("{queue}.dlq"), queue }
    }
}

/// A name as the protocol has it.
pub(crate) fn short(what: &'static str, text: &str) -> Result<ShortString, BusError> {
    ShortString::try_new(text).map_err(|_| BusError::TooLong { what, text: text.chars().take(80).collect() })
}

/// The routing key of an event. The publisher comes first: kinds alone do not tell it (inventory tells of `stock.changed`).
pub(crate) fn routing_key(publisher: &str, kind: &str) -> Result<ShortString, BusError> {
    short("a routing key", &format!("{publisher}.{kind}"))
}

/// Declares the exchange.
pub(crate) async fn exchange(channel: &Channel) -> Result<(), BusError> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, FieldTable::default());
    declared.await.map_err(|error| declaring(|| format!("exchange {EXCHANGE:?}"), error))
}

/// Declares a consumer's queues and binds them: from now on nothing that the publisher tells is lost to it.
pub(crate) async fn queues(channel: &Channel, names: &Names) -> Result<(), BusError> {
    exchange(channel).await?;
    let dead_letters = [("x-queue-type", text("quorum")), ("x-delivery-limit", NEVER.into())];
    queue(channel, &names.dead_letters, dead_letters).await?;
    let work = [
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", DELIVERY_LIMIT.into()),
        // One replica follows anyway. Here it keeps the order: what a frozen one holds is given to nobody else before the
        // broker took it back, and then comes first.
        ("x-single-active-consumer", true.into()),
        // To the queue of that name, through the default exchange.
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&names.dead_letters)),
        // A message leaves only when the other queue has it. That needs an overflow that refuses instead of dropping.
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ];
    queue(channel, &names.queue, work).await?;
    let (queue, everything) = (short("a queue's name", &names.queue)?, routing_key(&names.publisher, "#")?);
    Ok(channel.queue_bind(queue, EXCHANGE.into(), everything, QueueBindOptions::default(), FieldTable::default()).await?)
}

/// Whether the queue is there. On a channel of its own, which ends with the answer "no".
pub(crate) async fn exists(session: &Session, name: &str) -> Result<bool, BusError> {
    Ok(messages(session, name).await?.is_some())
}

/// How many messages wait in the queue; none when it is not there.
pub(crate) async fn messages(session: &Session, name: &str) -> Result<Option<u32>, BusError> {
    let channel = session.channel().await?;
    let options = QueueDeclareOptions::durable().passive();
    match channel.queue_declare(short("a queue's name", name)?, options, FieldTable::default()).await {
        Ok(queue) => Ok(Some(queue.message_count())),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Keeps other relays of the publisher out for as long as this connection lives: a queue that is exclusive to it.
///
/// The lease in the publisher's database does not suffice for the order of events: one that froze and thaws would publish
/// a few old ones among the newer ones of its successor. The broker has to have ended its connection first.
pub(crate) async fn lock(channel: &Channel, publisher: &str) -> Result<(), BusError> {
    let name = short("a queue's name", &format!("{EXCHANGE}.relay.{publisher}"))?;
    match channel.queue_declare(name, QueueDeclareOptions::exclusive(), FieldTable::default()).await {
        Ok(_) => Ok(()),
        Err(error) if is_locked(&error) => Err(BusError::AlreadyRelayed(publisher.to_owned())),
        Err(error) => Err(error.into()),
    }
}

async fn queue<const N: usize>(channel: &Channel, name: &str, arguments: [(&str, AMQPValue); N]) -> Result<(), BusError> {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert(key.into(), value);
    }
    let declared = channel.queue_declare(short("a queue's name", name)?, QueueDeclareOptions::durable(), table);
    declared.await.map(drop).map_err(|error| declaring(|| format!("queue {name:?}"), error))
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
