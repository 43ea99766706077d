//! The port through which a server makes itself known.

use crate::{BoxFuture, ServiceName};
use std::{collections::BTreeMap, fmt, net::SocketAddr};
use tokio::sync::watch;

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

/// The registry heard of an instance and will not have it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the registry at {registry} refused the registration of {id}: {reason}")]
pub struct RegisterError {
    /// The registry's address.
    pub registry: String,
    /// The instance.
    pub id: String,
    /// The registry's own words.
    pub reason: String,
}

/// How an instance stands with its registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// It serves, but nobody finds it: the registry was not asked yet.
    #[default]
    Unknown,
    /// The same: the registry cannot be reached, for this reason, or refuses after it could not be reached. It is asked
    /// again until it takes the instance.
    Waiting(String),
    /// The registry has it.
    Registered,
    /// The registry had it, and cannot be asked now, for this reason, or refuses. It is told again as soon as it listens.
    Stale(String),
    /// The first that was heard of the registry was a refusal. It is not asked again.
    Refused(RegisterError),
}

impl Standing {
    /// Whether the registry has ever taken the instance, so that others may know it.
    pub fn is_announced(&self) -> bool {
        matches!(self, Self::Registered | Self::Stale(_))
    }
}

/// Where servers make themselves known.
pub trait Register: fmt::Debug + Send + Sync {
    /// Announces an instance as passing, and keeps it announced until the returned value is withdrawn or dropped: a registry
    /// that cannot be reached is asked again, with a pause that grows, and one that forgets is told again. Lifts a
    /// maintenance mode of our own making, never an operator's.
    ///
    /// Waits for nothing: how far it has come is the [`Standing`] of the returned value. Must be called within a Tokio runtime.
    fn register(&self, registration: Registration) -> Box<dyn Registered>;
}

/// An instance that is being announced. Dropping it stops that but leaves the registration to the registry's checks.
pub trait Registered: fmt::Debug + Send + Sync {
    /// How it stands with the registry, from now on.
    fn standing(&self) -> watch::Receiver<Standing>;

    /// Takes the instance out of rotation and returns when our own watch of the registry no longer lists it, or
    /// after a few seconds when the registry does not answer: a drain never hangs on it. One that the registry has not taken
    /// is in no rotation: it is announced no more, and there is nothing to wait for.
    fn drain(&self) -> BoxFuture<'_, ()>;

    /// Ends the registration, or the attempts at it; best effort, bounded in time.
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()>;
}
