//! What a consumer could not read, and what became of it.
//!
//! A message is a dead letter when its consumer rejected it, or when it came 20 times and nobody answered for it. It waits
//! in a queue of its own until somebody acts: mends the consumer and has it replayed, mostly.

use crate::{
    Bus, BusError,
    bus::{Session, answered},
    message::{self, as_number, as_text, header},
    topology::{self, Names},
};
use chrono::{DateTime, Utc};
use lapin::{
    BasicProperties, Channel, Confirmation,
    message::BasicGetMessage,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};

/// The dead letters of one consumer of one publisher.
#[derive(Debug)]
pub struct DeadLetters {
    bus: Bus,
    names: Names,
}

/// A message that was put aside. What it should tell and does not is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event's id.
    pub id: Option<String>,
    /// What happened.
    pub kind: Option<String>,
    /// Whom it happened to.
    pub subject: Option<String>,
    /// The aggregate's version after it.
    pub version: Option<i64>,
    /// Its place in the publisher's sequence.
    pub position: Option<i64>,
    /// Why it was put aside: `rejected`, or `delivery_limit`.
    pub reason: Option<String>,
    /// How often it was put aside for that reason.
    pub times: Option<i64>,
    /// When it was first put aside for it.
    pub since: Option<DateTime<Utc>>,
    /// All headers, but those of the dead-lettering.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: Vec<u8>,
}

impl DeadLetters {
    pub(crate) fn new(bus: Bus, names: Names) -> Self {
        Self { bus, names }
    }

    /// The oldest of them, at most `limit`, and how many there are. They stay where they are.
    ///
    /// # Errors
    ///
    /// [`BusError::NoQueue`] where nobody follows, and whatever keeps us from the broker.
    pub async fn list(&self, limit: usize) -> Result<(Vec<DeadLetter>, usize), BusError> {
        let (_session, channel, all) = self.open().await?;
        let mut letters = Vec::new();
        while letters.len() < limit.min(all) {
            let Some(got) = self.get(&channel).await? else { break };
            letters.push(DeadLetter::new(&got.properties, &got.data));
        }
        // What is not acknowledged goes back to its place.
        channel.close(OK, "looked at".into()).await?;
        Ok((letters, all))
    }

    /// Gives the oldest of them, at most `limit`, to the consumer again, and answers how many; with an id, only that one.
    /// Each leaves only after the broker has it in the other queue: what is interrupted there is in both, which the inbox
    /// notices.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list). Those replayed before an error stay replayed.
    pub async fn replay(&self, limit: usize, id: Option<&str>) -> Result<usize, BusError> {
        let (_session, channel, all) = self.open().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut replayed = 0;
        // As many as there were at first: one that is put aside again meanwhile is not replayed for ever.
        for _ in 0..all {
            if replayed == limit {
                break;
            }
            let Some(got) = self.get(&channel).await? else { break };
            let found = got.properties.message_id().as_ref().map(|id| id.as_str());
            if id.is_some_and(|wanted| found != Some(wanted)) {
                continue;
            }
            self.publish(&channel, &got).await?;
            got.ack(BasicAckOptions::default()).await?;
            replayed += 1;
        }
        channel.close(OK, "replayed".into()).await?;
        Ok(replayed)
    }

    async fn publish(&self, channel: &Channel, got: &BasicGetMessage) -> Result<(), BusError> {
        let queue = topology::short("a queue's name", &self.names.queue)?;
        let properties = got.properties.clone().with_headers(own(got.properties.headers().as_ref()));
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        // Through the default exchange: to this consumer alone.
        let publish = async { Ok(channel.basic_publish("".into(), queue, options, &got.data, properties).await?.await?) };
        match answered("the consumer's queue", publish).await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(BusError::NoQueue(self.names.queue.clone())),
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                let headers = got.properties.headers().as_ref();
                Err(BusError::NotTaken(header(headers, message::POSITION).and_then(as_number).unwrap_or_default()))
            }
        }
    }

    async fn get(&self, channel: &Channel) -> Result<Option<BasicGetMessage>, BusError> {
        let queue = topology::short("a queue's name", &self.names.dead_letters)?;
        answered("the dead letters", async { Ok(channel.basic_get(queue, BasicGetOptions::default()).await?) }).await
    }

    /// A channel, and how many dead letters there are.
    async fn open(&self) -> Result<(Session, Channel, usize), BusError> {
        let name = &self.names.dead_letters;
        let session = self.bus.connect(&format!("looking at {name}")).await?;
        let look = async {
            let all = topology::messages(&session, name).await?.ok_or_else(|| BusError::NoQueue(name.clone()))?;
            Ok((session.channel().await?, usize::try_from(all).unwrap_or(usize::MAX)))
        };
        let (channel, all) = answered("the dead letters", look).await?;
        Ok((session, channel, all))
    }
}

/// The protocol's reply code of a channel that is closed because it is no longer needed.
const OK: u16 = 200;

impl DeadLetter {
    fn new(properties: &BasicProperties, body: &[u8]) -> Self {
        let headers = properties.headers().as_ref();
        let text = |name: &str| header(headers, name).and_then(as_text);
        let number = |name: &str| header(headers, name).and_then(as_number);
        let death = latest_death(headers);
        let since = header(death, "time").and_then(|time| match time {
            AMQPValue::Timestamp(seconds) => DateTime::from_timestamp(i64::try_from(*seconds).ok()?, 0),
            _ => None,
        });
        Self {
            id: properties.message_id().as_ref().map(ToString::to_string),
            kind: text(message::TYPE),
            subject: text(message::SUBJECT),
            version: number(message::VERSION),
            position: number(message::POSITION),
            reason: header(death, "reason").and_then(as_text),
            times: header(death, "count").and_then(as_number),
            since,
            headers: own(headers).into_iter().map(|(name, value)| (name.to_string(), shown(value))).collect(),
            payload: body.to_vec(),
        }
    }
}

/// The newest entry of what the broker notes about each time a message was put aside; the newest comes first.
fn latest_death(headers: Option<&FieldTable>) -> Option<&FieldTable> {
    match header(headers, "x-death")? {
        AMQPValue::FieldArray(deaths) => deaths.as_slice().first().and_then(|death| match death {
            AMQPValue::FieldTable(death) => Some(death),
            _ => None,
        }),
        _ => None,
    }
}

/// The headers that are the message's own.
fn own(headers: Option<&FieldTable>) -> FieldTable {
    let mut own = FieldTable::default();
    for (name, value) in headers.into_iter().flatten().filter(|(name, _)| !name.as_str().starts_with("x-")) {
        own.insert(name.clone(), value.clone());
    }
    own
}

fn shown(value: &AMQPValue) -> String {
    as_text(value).or_else(|| as_number(value).map(|n| n.to_string())).unwrap_or_else(|| format!("{value:?}"))
}
