//! How often one may call: per subject where a token proves one, per address otherwise.

mod gcra;
mod load_key;
mod memory;
mod redis;

pub use gcra::{Quota, Verdict};
pub use load_key::LoadKey;
pub use memory::MemoryRates;
pub use redis::{RateUrl, RedisRates};

use http::{HeaderMap, HeaderName, HeaderValue};
use sinew::{Claims, Role};
use sinew_core::BoxFuture;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

/// Whose quota is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RateKey {
    /// The subject of a verified token.
    Subject(Arc<str>),
    /// An IPv4 address, or the /64 network of an IPv6 one: a host has a whole such network to choose from.
    Address(IpAddr),
}

/// A store that cannot answer.
#[derive(Debug, thiserror::Error)]
#[error("rate limits: {0}")]
pub struct RateError(pub String);

/// Keeps quotas.
pub trait RateStore: fmt::Debug + Send + Sync {
    /// Takes one call out of a key's quota.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have been counted.
    fn take<'a>(&'a self, key: &'a RateKey, quota: Quota) -> BoxFuture<'a, Result<Verdict, RateError>>;
}

/// The quotas of each kind of caller; `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// Without a valid token, per address. Many people may share one address.
    pub anonymous: Option<Quota>,
    /// Per user.
    pub user: Option<Quota>,
    /// Per administrator: the class of operators' tools.
    pub admin: Option<Quota>,
    /// Per user, or per address, of those who show the load generators' key.
    pub load: Option<Quota>,
}

impl Default for Classes {
    fn default() -> Self {
        let tools = Quota::new(5_000, 10_000);
        Self { anonymous: Quota::new(50, 100), user: Quota::new(50, 100), admin: tools, load: tools }
    }
}

/// Applies the classes on a store.
#[derive(Debug)]
pub(crate) struct Rates {
    pub(crate) classes: Classes,
    /// Who shows it is of the class `load`; nobody is without.
    pub(crate) load_key: Option<LoadKey>,
    pub(crate) store: Arc<dyn RateStore>,
}

impl Rates {
    /// Takes one call out of the caller's quota; `None` where there is no limit.
    ///
    /// A store that does not answer lets calls through: the limit protects the services, and must not be what stops
    /// them.
    pub(crate) async fn take(&self, headers: &HeaderMap, claims: Option<&Claims>, address: IpAddr) -> Option<Verdict> {
        let class = match claims {
            _ if self.load_key.as_ref().is_some_and(|key| key.shown(headers)) => self.classes.load,
            Some(claims) if claims.role == Role::Admin => self.classes.admin,
            Some(_) => self.classes.user,
            None => self.classes.anonymous,
        };
        let quota = class?;
        let key = match claims {
            Some(claims) => RateKey::Subject(claims.sub.as_str().into()),
            None => RateKey::Address(network(address)),
        };
        match self.store.take(&key, quota).await {
            Ok(verdict) => Some(verdict),
            Err(error) => {
                tracing::warn!(%error, "calls go on without rate limit");
                None
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

impl Verdict {
    /// `RateLimit-Limit`, `-Remaining`, `-Reset` (draft-ietf-httpapi-ratelimit-headers-07), and `Retry-After` for those
    /// who must wait; whole seconds, rounded up.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let mut put = |name: &'static str, value: u64| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        };
        put("ratelimit-limit", self.limit.into());
        put("ratelimit-remaining", self.remaining.into());
        put("ratelimit-reset", seconds(self.reset));
        if let Some(wait) = self.wait {
            put("retry-after", seconds(wait).max(1));
        }
    }
}

/// Whole seconds, rounded up: whoever comes back then is not too early.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn one_host_of_ipv6_is_its_network() {
        let same = |a: &str, b: &str| network(a.parse().expect("address")) == network(b.parse().expect("address"));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }
}
