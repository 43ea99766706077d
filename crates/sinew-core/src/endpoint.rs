//! One instance of a service, as the registry describes it.

use std::{collections::BTreeMap, sync::Arc};

/// What the registry's checks say of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Every check passes.
    Passing,
    /// A check warns: still used, with its warning weight.
    Warning,
    /// A check fails, or the instance is in maintenance.
    Critical,
}

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The registration's id, stable over restarts of the same slot (`order-0`, a pod's name).
    pub id: Arc<str>,
    /// Host name or IP address (IPv6 without brackets).
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Relative share of traffic, at least 1.
    pub weight: u16,
    /// What its checks say.
    pub health: Health,
    /// Calls go to the lowest that has enough healthy endpoints; others stand by. Usually 0.
    pub priority: u8,
    /// Zone, where the registration names one.
    pub zone: Option<Arc<str>>,
    /// Everything else the registration carries.
    pub meta: BTreeMap<String, String>,
}

impl Endpoint {
    /// A healthy endpoint with nothing but an address, for fixed lists and tests.
    pub fn new(id: &str, host: &str, port: u16) -> Self {
        Self {
            id: id.into(),
            host: host.into(),
            port,
            weight: 1,
            health: Health::Passing,
            priority: 0,
            zone: None,
            meta: BTreeMap::new(),
        }
    }

    /// Whether `other` is reached the same way: a change of anything else keeps the connection.
    pub fn same_address(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "{} ([{}]:{})", self.id, self.host, self.port)
        } else {
            write!(f, "{} ({}:{})", self.id, self.host, self.port)
        }
    }
}
