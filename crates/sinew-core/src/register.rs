//! The port through which a server makes itself known.

use crate::{BoxFuture, ServiceName};
use std::{collections::BTreeMap, fmt, net::SocketAddr};

/// What a server tells the registry of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The service's name.
    pub service: ServiceName,
    /// Id of this instance, stable over restarts of the same slot.
    pub id: String,
    /// Where others reach it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Where the registry's own health check reaches it, when that differs from `host:port`.
    pub check: Option<SocketAddr>,
    /// Free text for humans and filters.
    pub tags: Vec<String>,
    /// Key and value pairs: version, admin port, gRPC services served.
    pub meta: BTreeMap<String, String>,
}

/// Why a registration did not happen.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The registry cannot be reached or did not answer in time.
    #[error("the registry at {registry} cannot be reached")]
    Unreachable {
        /// Its address.
        registry: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry answered and refused.
    #[error("the registry at {registry} refused the registration of {id}: {reason}")]
    Refused {
        /// Its address.
        registry: String,
        /// The instance.
        id: String,
        /// Its own words.
        reason: String,
    },
}

/// Where servers make themselves known.
pub trait Register: fmt::Debug + Send + Sync {
    /// Announces an instance as passing, and keeps it announced (a registry that forgets is told again) until the
    /// returned value is withdrawn or dropped. Lifts a maintenance mode of our own making, never an operator's.
    fn register(&self, registration: Registration) -> BoxFuture<'_, Result<Box<dyn Registered>, RegisterError>>;
}

/// An announced instance. Dropping it stops the upkeep but leaves the registration to the registry's checks.
pub trait Registered: fmt::Debug + Send + Sync {
    /// Takes the instance out of rotation and returns when our own watch of the registry no longer lists it, or
    /// after a few seconds when the registry does not answer: a drain never hangs on it.
    fn drain(&self) -> BoxFuture<'_, ()>;

    /// Ends the registration; best effort, bounded in time.
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()>;
}
