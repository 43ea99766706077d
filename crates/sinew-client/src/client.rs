//! The client: hands out channels and owns what runs behind them.

use crate::{
    channel::Channel,
    config::{Config, ConfigError},
    describe::{ConnectionState, DestinationStatus, EndpointStatus},
    destination::{Destination, Shared},
    snapshot::Phase,
};
use sinew_core::{Clock, Connector, Discover, Policies, Rng, ServiceName, SharedRng, SystemClock};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
};

/// What a client needs of the world.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Who serves a name.
    pub discover: Arc<dyn Discover>,
    /// How connections are opened; where it is left out, by a [`TcpConnector`](crate::TcpConnector) that goes by the client's [`Config`].
    pub connector: Option<Arc<dyn Connector>>,
    /// Jitter, picks and trace ids.
    pub rng: Arc<dyn Rng>,
    /// The time of spans.
    pub clock: Arc<dyn Clock>,
}

impl Ports {
    /// The real world: TCP, the operating system's randomness and clock.
    pub fn real(discover: Arc<dyn Discover>) -> Self {
        Self { discover, connector: None, rng: Arc::new(SharedRng::from_os()), clock: Arc::new(SystemClock) }
    }
}

/// Turns names into channels. Cheap to clone.
///
/// A destination (its watch, connections and statistics) starts with its first channel and ends when the client, its
/// channels and their calls are all gone.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ports: Ports,
    config: Arc<Config>,
    policies: Arc<Policies>,
    /// Locked when a channel is made, never when one is used.
    destinations: Mutex<BTreeMap<ServiceName, Arc<Destination>>>,
}

impl Client {
    /// Checks the settings; starts nothing yet.
    pub fn new(ports: Ports, config: Config, policies: Arc<Policies>) -> Result<Self, ConfigError> {
        config.check()?;
        tracing::debug!(?config, "client settings");
        let inner = Inner { ports, config: Arc::new(config), policies, destinations: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A channel to a service, which need not be known to anybody yet.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime: the destination's task is spawned on the current one.
    pub fn channel(&self, service: &ServiceName) -> Channel {
        let mut destinations = self.inner.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        let destination = destinations.entry(service.clone()).or_insert_with(|| {
            let Inner { ports, config, policies, .. } = &*self.inner;
            Arc::new(Destination::start(service, ports, config, policies))
        });
        Channel::new(destination.clone())
    }

    /// Every destination, as of now.
    pub fn describe(&self) -> Vec<DestinationStatus> {
        let destinations = self.inner.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        destinations.values().map(|d| describe(&d.shared)).collect()
    }
}

fn describe(shared: &Shared) -> DestinationStatus {
    let snapshot = shared.snapshot.load();
    let endpoints = snapshot.members.iter().map(|member| EndpointStatus {
        id: member.registered.id.clone(),
        address: format!("{}:{}", member.registered.host, member.registered.port),
        health: member.registered.health,
        connection: match &member.phase {
            Phase::Connecting => ConnectionState::Connecting,
            Phase::Ready { .. } => ConnectionState::Ready,
            Phase::Suspect => ConnectionState::Suspect,
            Phase::Failed(error) => ConnectionState::Failed { error: error.clone() },
        },
        connections: member.ready.connections.len(),
        breaker: member.endpoint().breakers.of(None).describe(),
        method_breakers: shared.breakers.describe(&member.endpoint().breakers),
        ejected: member.ejected,
        in_flight: member.endpoint().in_flight.load(Relaxed),
    });
    DestinationStatus { service: shared.service.clone(), state: snapshot.state, endpoints: endpoints.collect() }
}
