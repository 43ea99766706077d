//! Events as AMQP messages: the AMQP binding of CloudEvents 1.0, in binary mode.
//!
//! The payload is the message's body, the context attributes are headers under `cloudEvents_`. What AMQP has properties
//! for is in those as well, so that the broker's own tools show it.

use chrono::{DateTime, SecondsFormat};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use sinew_events::Event;
use uuid::Uuid;

/// What a relay says when it cannot hand over events that its publisher no longer has: up to its position, consumers must
/// ask the publisher itself.
pub(crate) const FORGOTTEN: &str = "sinew.events.forgotten";

/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;

const ID: &str = "cloudEvents_id";
const SOURCE: &str = "cloudEvents_source";
pub(crate) const TYPE: &str = "cloudEvents_type";
pub(crate) const SUBJECT: &str = "cloudEvents_subject";
const TIME: &str = "cloudEvents_time";
const SPECVERSION: &str = "cloudEvents_specversion";
// Extensions, named as CloudEvents wants them: lower case, no separators.
pub(crate) const VERSION: &str = "cloudEvents_version";
pub(crate) const POSITION: &str = "cloudEvents_position";
const SCHEMA: &str = "cloudEvents_schemaversion";
const TRACEPARENT: &str = "cloudEvents_traceparent";

/// A message that was read.
#[derive(Debug, PartialEq)]
pub(crate) enum Content {
    Event(Event),
    /// Events up to this position never come.
    Forgotten(i64),
}

/// The properties of an event of this publisher; its payload is the body.
pub(crate) fn properties(source: &str, event: &Event) -> BasicProperties {
    let mut headers = attributes(source, event.event_id, &event.kind, event.pos);
    let mut set = |name: &str, value: AMQPValue| {
        headers.insert(name.into(), value);
    };
    set(SUBJECT, text(&event.aggregate.to_string()));
    set(TIME, text(&event.occurred_at.to_rfc3339_opts(SecondsFormat::Micros, true)));
    set(VERSION, event.version.into());
    set(SCHEMA, event.schema.into());
    if let Some(traceparent) = &event.traceparent {
        set(TRACEPARENT, text(traceparent));
    }
    persistent(event.event_id, headers)
        .with_content_type("application/protobuf".into())
        .with_timestamp(event.occurred_at.timestamp().max(0).unsigned_abs())
}

/// The properties of the message that says what is forgotten; it has no body.
pub(crate) fn forgotten(source: &str, up_to: i64) -> BasicProperties {
    let id = Uuid::now_v7();
    persistent(id, attributes(source, id, FORGOTTEN, up_to))
}

fn attributes(source: &str, id: Uuid, kind: &str, position: i64) -> FieldTable {
    let mut headers = FieldTable::default();
    headers
        .insert(SPECVERSION.into(), text("1.0"))
        .insert(ID.into(), text(&id.to_string()))
        .insert(SOURCE.into(), text(source))
        .insert(TYPE.into(), text(kind))
        .insert(POSITION.into(), position.into());
    headers
}

fn persistent(id: Uuid, headers: FieldTable) -> BasicProperties {
    BasicProperties::default().with_delivery_mode(PERSISTENT).with_message_id(id.to_string().into()).with_headers(headers)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Reads a message, or says which header is not what it should be.
pub(crate) fn read(properties: &BasicProperties, body: Vec<u8>) -> Result<Content, String> {
    let headers = properties.headers().as_ref();
    let wrong = |name: &str| format!("header {name} is not what it should be");
    let text = |name: &str| header(headers, name).and_then(as_text).ok_or_else(|| wrong(name));
    let number = |name: &str| header(headers, name).and_then(as_number).ok_or_else(|| wrong(name));
    let id = |name: &str| Uuid::try_parse(&text(name)?).map_err(|_| wrong(name));
    if text(SPECVERSION)? != "1.0" {
        return Err(wrong(SPECVERSION));
    }
    let (kind, pos) = (text(TYPE)?, number(POSITION)?);
    if kind == FORGOTTEN {
        return Ok(Content::Forgotten(pos));
    }
    Ok(Content::Event(Event {
        pos,
        event_id: id(ID)?,
        aggregate: id(SUBJECT)?,
        version: number(VERSION)?,
        kind,
        schema: number(SCHEMA)?,
        payload: body,
        occurred_at: DateTime::parse_from_rfc3339(&text(TIME)?).map_err(|_| wrong(TIME))?.to_utc(),
        traceparent: text(TRACEPARENT).ok(),
    }))
}

pub(crate) fn header<'a>(headers: Option<&'a FieldTable>, name: &str) -> Option<&'a AMQPValue> {
    headers?.inner().get(name)
}

pub(crate) fn as_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Other programs write numbers in whatever width they like.
pub(crate) fn as_number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(n) => Some((*n).into()),
        AMQPValue::ShortShortUInt(n) => Some((*n).into()),
        AMQPValue::ShortInt(n) => Some((*n).into()),
        AMQPValue::ShortUInt(n) => Some((*n).into()),
        AMQPValue::LongInt(n) => Some((*n).into()),
        AMQPValue::LongUInt(n) => Some((*n).into()),
        AMQPValue::LongLongInt(n) => Some(*n),
        other => as_text(other)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            pos: 7,
            event_id: Uuid::now_v7(),
            aggregate: Uuid::now_v7(),
            version: 3,
            kind: "thing.changed".into(),
            schema: 1,
            payload: vec![1, 2],
            occurred_at: DateTime::from_timestamp(1, 5_000).unwrap(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let event = event();
        let properties = properties("things", &event);
        assert_eq!(properties.message_id().as_ref().map(ToString::to_string), Some(event.event_id.to_string()));
        assert_eq!(read(&properties, event.payload.clone()), Ok(Content::Event(event)));
        assert_eq!(read(&forgotten("things", 9), Vec::new()), Ok(Content::Forgotten(9)));
    }

    #[test]
    fn what_breaks_the_contract_is_named() {
        for name in [ID, TYPE, SUBJECT, TIME, SPECVERSION, VERSION, POSITION, SCHEMA] {
            let properties = properties("things", &event());
            let mut headers = properties.headers().clone().unwrap();
            headers.insert(name.into(), AMQPValue::Boolean(true));
            let error = read(&properties.with_headers(headers), Vec::new()).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        assert!(read(&BasicProperties::default(), Vec::new()).is_err());
    }

    #[test]
    fn numbers_are_read_in_any_width() {
        let properties = properties("things", &event());
        let mut headers = properties.headers().clone().unwrap();
        headers.insert(POSITION.into(), AMQPValue::LongInt(8)).insert(VERSION.into(), AMQPValue::LongString("4".into()));
        let Ok(Content::Event(read)) = read(&properties.with_headers(headers), Vec::new()) else { panic!("no event") };
        assert_eq!((read.pos, read.version), (8, 4));
    }
}
