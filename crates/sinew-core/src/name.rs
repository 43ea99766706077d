//! Names of services as the registry knows them.

use std::{fmt, sync::Arc};

/// A service's name in the registry: also its `:authority` and its label in metrics.
///
/// Consul accepts more than this, but only names that are DNS labels work everywhere a name goes (DNS, SPIFFE ids,
/// HTTP authorities), so nothing else is let in: 1 to 63 of `a-z`, `0-9` and `-`, not starting or ending with `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// A name that cannot be a [`ServiceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no service name: use 1 to 63 of a-z, 0-9 and '-', not at either end")]
pub struct InvalidName {
    name: String,
}

impl ServiceName {
    /// Checks the name.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let ok = (1..=63).contains(&name.len()) && name.chars().all(label) && !name.starts_with('-') && !name.ends_with('-');
        if ok { Ok(Self(name.into())) } else { Err(InvalidName { name: name.to_owned() }) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ServiceName {
    type Err = InvalidName;
    fn from_str(s: &str) -> Result<Self, InvalidName> {
        Self::new(s)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::ServiceName;

    #[test]
    fn only_dns_labels_pass() {
        for good in ["order", "a", "order-2", &"x".repeat(63)] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Order", "a.b", "a_b", "ä", "a b", &"x".repeat(64)] {
            assert!(ServiceName::new(bad).is_err(), "{bad}");
        }
    }
}
