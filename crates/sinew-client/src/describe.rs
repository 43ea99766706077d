//! What a client knows and does, as plain values: for admin ports and tests.

use sinew_core::{Health, ServiceName, State};
use std::sync::Arc;
use tokio::time::Instant;

/// One destination at one moment.
#[derive(Debug, Clone)]
pub struct DestinationStatus {
    /// The service.
    pub service: ServiceName,
    /// How far its endpoints can be trusted.
    pub state: State,
    /// Its endpoints, in order of id.
    pub endpoints: Vec<EndpointStatus>,
}

/// One endpoint at one moment.
#[derive(Debug, Clone)]
pub struct EndpointStatus {
    /// The registration's id.
    pub id: Arc<str>,
    /// `host:port`.
    pub address: String,
    /// What the registry's checks say.
    pub health: Health,
    /// Whether calls can reach it.
    pub connection: ConnectionState,
    /// Open connections.
    pub connections: usize,
    /// Whether its breaker lets calls through.
    pub breaker: BreakerState,
    /// The methods that have a breaker of their own there which is not closed.
    pub method_breakers: Vec<(Arc<str>, BreakerState)>,
    /// Whether it is left out for now, because it fails far more often than the others.
    pub ejected: bool,
    /// Calls under way.
    pub in_flight: usize,
}

/// Whether calls can reach an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// The first attempt is under way.
    Connecting,
    /// The server answers.
    Ready,
    /// The server has stopped answering PINGs; no new calls are sent until it does.
    Suspect,
    /// The latest attempt failed; another follows.
    Failed {
        /// Why.
        error: Arc<str>,
    },
}

/// Whether a breaker lets calls through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Yes.
    Closed,
    /// No.
    Open {
        /// When probes begin.
        until: Instant,
    },
    /// A few, to see.
    HalfOpen,
}
