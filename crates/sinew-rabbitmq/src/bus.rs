//! The broker's address, and connections to it.

use crate::{BusError, BusFeed, DeadLetters, Relay, error::connecting, topology::Names};
use lapin::{Channel, Connection, ConnectionProperties, uri::AMQPUri};
use sinew_core::Rng;
use sinew_events::{Checkpoint, Feed, Publication, SubscriptionConfig};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::timeout;

/// Where the address is set.
const VARIABLE: &str = "AMQP_URL";

/// Seconds between signs of life when the address does not say (`?heartbeat=10`). A side that is silent for two of them
/// is dead; 5 to 20 s are what RabbitMQ advises, and the shortest of these decides how soon another replica goes on in the
/// place of one that froze.
const HEARTBEAT: u16 = 5;

/// How long a connection may take to be made, all hosts together: one that swallows packets answers nothing at all.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the broker may take to answer a question. It answers in milliseconds, but a queue that lost its leader keeps
/// whoever asks about it waiting.
const ANSWER: Duration = Duration::from_secs(10);

/// A message broker: where it is, and who we are to it. Clones are the same.
#[derive(Clone)]
pub struct Bus {
    /// The same but for the host, one for each node of a cluster.
    uris: Arc<[AMQPUri]>,
    /// Which of them is asked first. Each connection begins with another: they spread over the nodes, and what a node
    /// accepts and cannot serve is asked of the next one.
    next: Arc<AtomicUsize>,
}

/// One connection. Dropped, it is closed, and what it held goes back to the broker.
pub(crate) struct Session(Connection);

impl Bus {
    /// The broker at `amqp://user:password@host:5672/%2f`, or `amqps://…` over TLS; a cluster's nodes by commas:
    /// `amqp://user:password@a:5672,b:5672,c:5672/%2f`. Each connection is made to whichever of them answers first when
    /// they are asked in turn. `variable` is where that was set.
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
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let of_host = |host: &str| {
            if host.is_empty() || host.starts_with(':') {
                return Err(wrong("it names no host"));
            }
            if host.starts_with('[') {
                // lapin's parser takes it for no host at all, and connects to localhost.
                return Err(wrong("an IPv6 address cannot be written here; use a name"));
            }
            // The parser's own words may repeat the address.
            let uri = format!("{scheme}://{user}{host}{path}").parse();
            let mut uri: AMQPUri = uri.map_err(|_| wrong("it cannot be read"))?;
            uri.query.heartbeat.get_or_insert(HEARTBEAT);
            Ok(uri)
        };
        let uris = hosts.split(',').map(of_host).collect::<Result<_, _>>()?;
        Ok(Self { uris, next: Arc::default() })
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
        let nodes = self.uris.len();
        let first = self.next.fetch_add(1, Relaxed);
        let mut failed = None;
        for uri in self.uris.iter().cycle().skip(first % nodes.max(1)).take(nodes) {
            let properties = ConnectionProperties::default().with_connection_name(purpose.into());
            let connecting_now = Connection::connect_uri(uri.clone(), properties);
            // One that swallows packets leaves the others their share.
            match timeout(CONNECT / u32::try_from(nodes).unwrap_or(u32::MAX), connecting_now).await {
                Ok(Ok(connection)) => return Ok(Session(connection)),
                Ok(Err(error)) => failed = Some(connecting(&shown(uri, &at(uri)), error)),
                Err(late) => failed = Some(BusError::Unreachable { broker: shown(uri, &at(uri)), source: Box::new(late) }),
            }
        }
        Err(failed.unwrap_or(BusError::Silent("it has no hosts")))
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

/// `host:port`.
fn at(uri: &AMQPUri) -> String {
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

/// Without the password.
fn shown(uri: &AMQPUri, hosts: &str) -> String {
    let AMQPUri { scheme, authority, vhost, .. } = uri;
    let vhost = if vhost == "/" { String::new() } else { format!("/{vhost}") };
    format!("{scheme}://{}@{hosts}{vhost}", authority.userinfo.username)
}

/// Without the password.
impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.uris.iter().map(at).collect();
        self.uris.first().map_or(Ok(()), |uri| f.write_str(&shown(uri, &hosts.join(","))))
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
        let heartbeat = |bus: &Bus| bus.uris.first().and_then(|uri| uri.query.heartbeat);
        assert_eq!(heartbeat(&bus), Some(9));
        assert_eq!(heartbeat(&Bus::new("amqp://mq", VARIABLE).unwrap()), Some(HEARTBEAT));
    }

    #[test]
    fn the_nodes_of_a_cluster_differ_in_their_hosts_only() {
        let bus = Bus::new("amqp://shop:s3,cret@a,b:5673,c/prod?heartbeat=9", VARIABLE).unwrap();
        assert_eq!(bus.to_string(), "amqp://shop@a:5672,b:5673,c:5672/prod");
        assert!(bus.uris.iter().all(|uri| uri.vhost == "prod" && uri.query.heartbeat == Some(9)));
        assert!(bus.uris.iter().all(|uri| uri.authority.userinfo.password == "s3,cret"));
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
            "amqp://shop:s3cret@a,",
            "amqp://shop:s3cret@a,,b",
            "amqp://shop:s3cret@mq?heartbeat=s3cret",
        ] {
            let error = Bus::new(url, VARIABLE).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("AMQP_URL") && !text.contains("s3cret"), "{url}: {text}");
        }
    }
}
