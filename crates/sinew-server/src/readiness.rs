//! What must be true before a server takes calls.

use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// A set of named conditions. A server registers when all hold; `/readyz` names those that do not.
#[derive(Debug, Clone)]
pub struct Readiness {
    gates: Arc<watch::Sender<BTreeMap<&'static str, bool>>>,
}

/// One condition; closed until it is opened.
#[derive(Debug)]
pub struct Gate {
    name: &'static str,
    readiness: Readiness,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { gates: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }
}

impl Readiness {
    /// Adds a condition that does not hold yet.
    pub fn gate(&self, name: &'static str) -> Gate {
        self.gates.send_modify(|gates| {
            gates.insert(name, false);
        });
        Gate { name, readiness: self.clone() }
    }

    /// The conditions that do not hold.
    pub fn missing(&self) -> Vec<&'static str> {
        self.gates.borrow().iter().filter(|(_, open)| !**open).map(|(name, _)| *name).collect()
    }

    /// Returns when every condition holds.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only watches.
    pub async fn ready(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.gates.subscribe().wait_for(|gates| gates.values().all(|open| *open)).await;
    }
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        self.set(true);
    }

    /// The condition holds no longer.
    pub fn close(&self) {
        self.set(false);
    }

    fn set(&self, open: bool) {
        self.readiness.gates.send_modify(|gates| {
            gates.insert(self.name, open);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn ready_means_every_gate() {
        let readiness = Readiness::default();
        timeout(Duration::from_secs(1), readiness.ready()).await.expect("no gates: ready");
        let (store, listener) = (readiness.gate("store"), readiness.gate("listener"));
        store.open();
        assert_eq!(readiness.missing(), ["listener"]);
        assert!(timeout(Duration::from_secs(1), readiness.ready()).await.is_err());
        listener.open();
        timeout(Duration::from_secs(1), readiness.ready()).await.expect("all open");
        store.close();
        assert_eq!(readiness.missing(), ["store"]);
    }
}
