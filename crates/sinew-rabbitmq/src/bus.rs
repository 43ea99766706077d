//! The broker's address, and connections to it.

use crate::{BusError, BusFeed, DeadLetters, Relay, error::connecting, topology::Names};
use lapin::{Channel, Connection, ConnectionProperties, uri::AMQPUri};
use sinew_core::Rng;
use sinew_events::{Checkpoint, Feed, Publication, SubscriptionConfig};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Where the address is set.
const VARIABLE: &str = "AMQP_URL";

/// Seconds between signs of life when the address does not say (`?heartbeat=10`). A side that is silent for two of them
/// is dead; 5 to 20 s are what RabbitMQ advises, and the shortest of these decides how soon another replica goes on in the
/// place of one that froze.
const HEARTBEAT: u16 = 5;

/// How long a connection may take to be made: a host that swallows packets answers nothing at all.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the broker may take to answer a question. It answers in milliseconds, but a queue that lost its leader keeps
/// whoever asks about it waiting.
const ANSWER: Duration = Duration::from_secs(10);

/// A message broker: where it is, and who we are to it. Clones are the same.
#[derive(Clone)]
pub struct Bus {
    uri: Arc<AMQPUri>,
}

/// One connection. Dropped, it is closed, and what it held goes back to the broker.
pub(crate) struct Session(Connection);

impl Bus {
    /// The broker at `amqp://user:password@host:5672/%2f`, or `amqps://…` over TLS. `variable` is where that was set.
    ///
    /// # Errors
    ///
    /// [`BusError::Address`]; it does not hold the address, which has a password in it.
    pub fn new(url: &str, variable: &'static str) -> Result<Self, BusError> {
        let wrong = |reason: &str| BusError::Address { variable, reason: reason.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        if !matches!(scheme, "amqp" | "amqps") {
            return Err(wrong("its scheme is neither amqp nor amqps"));
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') {
            return Err(wrong("it names no host"));
        }
        if host.starts_with('[') {
            // lapin's parser takes it for no host at all, and connects to localhost.
            return Err(wrong("an IPv6 address cannot be written here; use a name"));
        }
        // The parser's own words may repeat the address.
        let mut uri: AMQPUri = url.parse().map_err(|_| wrong("it cannot be read"))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(Self { uri: Arc::new(uri) })
    }

    /// The broker of `AMQP_URL`; none where that is not set: events go without a broker then.
    pub fn from_env() -> Result<Option<Self>, BusError> {
        let url = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty());
        url.map(|url| Self::new(&url, VARIABLE)).transpose()
    }

    /// What hands a publisher's events to the broker, to be run beside its server. `instance` is how operators know this
    /// replica.
    pub fn relay(
        &self,
        (publisher, instance): (&str, &str),
        publication: Arc<dyn Publication>,
        checkpoint: Arc<dyn Checkpoint>,
        config: SubscriptionConfig,
        rng: Arc<dyn Rng>,
    ) -> Relay {
        Relay::new(self.clone(), (publisher, instance), publication, checkpoint, config, rng)
    }

    /// A publisher's events, for a [`Subscription`](sinew_events::Subscription). `owner` is the publisher itself, which
    /// tells everything it owns to who is new.
    pub fn feed(&self, publisher: &str, owner: Arc<dyn Feed>) -> BusFeed {
        BusFeed::new(self.clone(), publisher, owner)
    }

    /// What a consumer could not read of a publisher's events.
    pub fn dead_letters(&self, consumer: &str, publisher: &str) -> DeadLetters {
        DeadLetters::new(self.clone(), Names::new(consumer, publisher))
    }

    /// Connects. `purpose` is what the broker's own tools show.
    pub(crate) async fn connect(&self, purpose: &str) -> Result<Session, BusError> {
        let properties = ConnectionProperties::default().with_connection_name(purpose.into());
        let connecting_now = Connection::connect_uri((*self.uri).clone(), properties);
        match timeout(CONNECT, connecting_now).await {
            Ok(Ok(connection)) => Ok(Session(connection)),
            Ok(Err(error)) => Err(connecting(&self.to_string(), error)),
            Err(late) => Err(BusError::Unreachable { broker: self.to_string(), source: Box::new(late) }),
        }
    }
}

/// The broker's answer, or an error after a while. `what` was asked.
pub(crate) async fn answered<T>(what: &'static str, asking: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    timeout(ANSWER, asking).await.unwrap_or(Err(BusError::Silent(what)))
}

impl Session {
    /// A channel: what fails on it leaves the connection's others alone.
    pub(crate) async fn channel(&self) -> Result<Channel, BusError> {
        Ok(self.0.create_channel().await?)
    }
}

/// Without the password.
impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority, vhost, .. } = &*self.uri;
        write!(f, "{scheme}://{}@{}:{}", authority.userinfo.username, authority.host, authority.port)?;
        if vhost == "/" { Ok(()) } else { write!(f, "/{vhost}") }
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bus({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let bus = Bus::new("amqps://shop:s3cret@mq.example:5671/prod?heartbeat=9", VARIABLE).unwrap();
        assert_eq!(bus.to_string(), "amqps://shop@mq.example:5671/prod");
        assert_eq!(format!("{bus:?}"), "Bus(amqps://shop@mq.example:5671/prod)");
        assert_eq!(bus.uri.query.heartbeat, Some(9));
        assert_eq!(Bus::new("amqp://mq", VARIABLE).unwrap().uri.query.heartbeat, Some(HEARTBEAT));
    }

    #[test]
    fn nonsense_is_refused_by_name_and_without_its_secrets() {
        for url in [
            "",
            "mq:5672",
            "http://shop:s3cret@mq",
            "amqp://",
            "amqp://shop:s3cret@",
            "amqp://shop:s3cret@[::1]:5672",
            "amqp://shop:s3cret@mq:port",
            "amqp://shop:s3cret@mq?heartbeat=s3cret",
        ] {
            let error = Bus::new(url, VARIABLE).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("AMQP_URL") && !text.contains("s3cret"), "{url}: {text}");
        }
    }
}
