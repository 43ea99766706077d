//! What can go wrong with a broker, in words for whoever has to put it right. None of them holds a password.

use lapin::{
    Error, ErrorKind,
    protocol::{AMQPError, AMQPErrorKind, AMQPSoftError},
};

/// Why something with the broker did not work.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address is none.
    #[error("{variable} is no address of a message broker: {reason}; write amqp://user:password@host:5672/%2f")]
    Address {
        /// Where it was read.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("the message broker {broker} cannot be reached")]
    Unreachable {
        /// Its address, without the password.
        broker: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It does not let us in.
    #[error("the message broker {broker} refuses us: {reason}")]
    Refused {
        /// Its address, without the password.
        broker: String,
        /// In its own words.
        reason: String,
    },
    /// A queue or an exchange is there, and is another kind than ours.
    #[error("{what} is there and differs in {argument}: delete it, or give it another name ({reason})")]
    Conflict {
        /// `queue "order.user"`.
        what: String,
        /// In what.
        argument: String,
        /// In the broker's words.
        reason: String,
    },
    /// It does not know what we ask for.
    #[error("{what} cannot be declared with {argument}: RabbitMQ 3.10 or newer is needed ({reason})")]
    TooOld {
        /// `queue "order.user"`.
        what: String,
        /// What it does not know.
        argument: String,
        /// In the broker's words.
        reason: String,
    },
    /// There is no such queue.
    #[error("there is no queue {0:?}: nobody follows under these names, or has not yet")]
    NoQueue(String),
    /// Another relay's connection is still open, frozen or not.
    #[error("another relay of {0:?} is still connected to the broker")]
    AlreadyRelayed(String),
    /// It is connected and does not answer: a queue without its leader, or a broker that is frozen.
    #[error("the broker does not answer: {0}")]
    Silent(&'static str),
    /// It neither took an event nor refused it.
    #[error(
        "the broker does not confirm the event at position {0}: a queue without its majority, or a broker without memory or disk"
    )]
    NotConfirmed(i64),
    /// It did not take an event.
    #[error("the broker refused the event at position {0}")]
    NotTaken(i64),
    /// A consumer hears nothing while the publisher goes on.
    #[error(
        "the broker delivers nothing after position {reached}, and the publisher is at {head}: its relay is away, or the queue's \
         leader changed and forgot its consumer; connecting anew"
    )]
    NothingDelivered {
        /// The newest position that came.
        reached: i64,
        /// The publisher's newest.
        head: i64,
    },
    /// A name is too long for it.
    #[error("{what} is longer than 255 bytes, which the broker does not take: {text}")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// Its beginning.
        text: String,
    },
    /// Anything else: the connection broke, the broker went away.
    #[error("the broker does not go on")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Error> for BusError {
    fn from(error: Error) -> Self {
        Self::Broken(Box::new(error))
    }
}

/// The broker's own error, if it sent one.
fn told(error: &Error) -> Option<&AMQPError> {
    match error.kind() {
        ErrorKind::ProtocolError(told) => Some(told),
        _ => None,
    }
}

/// Why a connection was not made.
pub(crate) fn connecting(broker: &str, error: Error) -> BusError {
    let broker = broker.to_owned();
    match told(&error) {
        Some(told) => BusError::Refused { broker, reason: told.get_message().to_string() },
        None => BusError::Unreachable { broker, source: Box::new(error) },
    }
}

/// Why something was not declared.
pub(crate) fn declaring(what: impl FnOnce() -> String, error: Error) -> BusError {
    let Some(told) = told(&error) else { return error.into() };
    let reason = told.get_message().to_string();
    match told.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if reason.contains("invalid arg") => {
            BusError::TooOld { what: what(), argument: quoted(&reason), reason }
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
            BusError::Conflict { what: what(), argument: quoted(&reason), reason }
        }
        _ => error.into(),
    }
}

/// Whether the broker says that there is no such thing.
pub(crate) fn is_not_found(error: &Error) -> bool {
    is_soft(error, AMQPSoftError::NOTFOUND)
}

/// Whether the broker says that another connection has it for itself.
pub(crate) fn is_locked(error: &Error) -> bool {
    is_soft(error, AMQPSoftError::RESOURCELOCKED)
}

fn is_soft(error: &Error, kind: AMQPSoftError) -> bool {
    told(error).is_some_and(|told| matches!(told.kind(), AMQPErrorKind::Soft(soft) if *soft == kind))
}

/// The argument that a text like `inequivalent arg 'x-delivery-limit' for queue …` is about.
fn quoted(reason: &str) -> String {
    reason.split('\'').nth(1).unwrap_or("an argument").to_owned()
}
