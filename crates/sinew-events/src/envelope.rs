//! Events as they travel: the envelope of `sinew.events.v1`, shaped after CloudEvents 1.0.

use crate::{Event, NewEvent};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use sinew_proto::events::v1 as proto;
use uuid::Uuid;

/// An envelope that breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {id:?} at position {position}: {field} is not what the contract says")]
pub struct EnvelopeError {
    /// Its id, as far as it has one.
    pub id: String,
    /// Where it was found.
    pub position: i64,
    /// What is wrong.
    pub field: &'static str,
}

/// Wraps an event of this publisher.
pub(crate) fn wrap(source: &str, event: Event) -> proto::Event {
    proto::Event {
        id: event.event_id.to_string(),
        source: source.to_owned(),
        r#type: event.kind,
        subject: event.aggregate.to_string(),
        version: event.version,
        time: Some(timestamp(event.occurred_at)),
        schema_version: i32::try_from(event.schema).unwrap_or(i32::MAX),
        data: event.payload,
        traceparent: event.traceparent.unwrap_or_default(),
        position: event.pos,
    }
}

/// Wraps an aggregate as it is: position 0, and a new id each time, for it is no event that happened.
pub(crate) fn wrap_owned(source: &str, event: NewEvent<'_>) -> proto::Event {
    wrap(
        source,
        Event {
            pos: 0,
            event_id: Uuid::now_v7(),
            aggregate: event.aggregate,
            version: event.version,
            kind: event.kind.to_owned(),
            schema: event.schema.into(),
            payload: event.payload,
            occurred_at: event.time,
            traceparent: None,
        },
    )
}

/// Unwraps an event that somebody sent.
pub(crate) fn unwrap(event: proto::Event) -> Result<Event, EnvelopeError> {
    let wrong = |field| EnvelopeError { id: event.id.clone(), position: event.position, field };
    let id = |text: &str, field| Uuid::try_parse(text).map_err(|_| wrong(field));
    let time = event.time.and_then(|t| DateTime::<Utc>::from_timestamp(t.seconds, u32::try_from(t.nanos).ok()?));
    Ok(Event {
        pos: event.position,
        event_id: id(&event.id, "id")?,
        aggregate: id(&event.subject, "subject")?,
        version: event.version,
        schema: event.schema_version.into(),
        occurred_at: time.ok_or_else(|| wrong("time"))?,
        traceparent: (!event.traceparent.is_empty()).then_some(event.traceparent),
        kind: event.r#type,
        payload: event.data,
    })
}

pub(crate) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_is_unwrapped_and_the_rest_is_named() {
        let event = Event {
            pos: 7,
            event_id: Uuid::now_v7(),
            aggregate: Uuid::now_v7(),
            version: 3,
            kind: "thing.changed".into(),
            schema: 1,
            payload: vec![1, 2],
            occurred_at: DateTime::from_timestamp(1, 5_000).unwrap(),
            traceparent: None,
        };
        let wrapped = wrap("things", event.clone());
        assert_eq!(unwrap(wrapped.clone()), Ok(event));
        let broken = proto::Event { subject: "teapot".into(), ..wrapped };
        assert_eq!(unwrap(broken).unwrap_err().field, "subject");
    }
}
