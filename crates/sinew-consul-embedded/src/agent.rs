//! The agent: a listener, the state, and the tasks that run its checks.

use crate::{http, probe::Probes, state::State};
use std::{io, net::SocketAddr, sync::Arc, sync::Mutex, time::Duration};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// How an agent behaves. The defaults are Consul's.
#[derive(Debug, Clone)]
pub struct Builder {
    node: String,
    datacenter: String,
    reap: Duration,
}

/// A running agent; dropping it ends it.
#[derive(Debug)]
pub struct Agent {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Agent {
    /// An agent to be started.
    pub fn builder() -> Builder {
        Builder { node: "embedded".into(), datacenter: "dc1".into(), reap: Duration::from_secs(30) }
    }

    /// Where its API listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Builder {
    /// The name of its one node; `embedded` by default.
    pub fn node(mut self, name: &str) -> Self {
        name.clone_into(&mut self.node);
        self
    }

    /// The datacentre's name; `dc1` by default.
    pub fn datacenter(mut self, name: &str) -> Self {
        name.clone_into(&mut self.datacenter);
        self
    }

    /// How often services that were critical for too long are looked for; 30 s by default.
    pub fn reap_interval(mut self, interval: Duration) -> Self {
        self.reap = interval;
        self
    }

    /// Listens and serves until the returned value is dropped.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on.
    pub async fn bind(self, address: SocketAddr) -> io::Result<Agent> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Shared::new(State::new(&self.node, &self.datacenter, address));
        let mut tasks = JoinSet::new();
        tasks.spawn(shared.clone().reap(self.reap));
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, http::router(shared)).await {
                tracing::error!(%error, "the embedded registry ended");
            }
        });
        Ok(Agent { address, _tasks: tasks })
    }
}

/// The state, and whoever waits for it to change.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    pub probes: Probes,
}

impl Shared {
    fn new(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(1), probes: Probes::default() }
    }

    /// Looks at the state.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        f(&self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Changes the state and wakes whoever waits, if anything changed.
    pub(crate) fn write<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = f(&mut state);
        let index = state.index();
        self.changed.send_if_modified(|seen| std::mem::replace(seen, index) != index);
        result
    }

    /// Wakes at every change; what changed is for the caller to see.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Forgets services that were critical for too long, and lets TTLs run out.
    async fn reap(self, every: Duration) {
        let mut next_reap = tokio::time::Instant::now() + every;
        loop {
            let now = tokio::time::Instant::now();
            let ttl = self.write(|state| state.expire(now));
            if now >= next_reap {
                next_reap = now + every;
                for id in self.write(|state| state.reap(now)) {
                    tracing::info!(id, "critical for too long: forgotten");
                    self.probes.stop(&id);
                }
            }
            let mut changes = self.changes();
            let wake = ttl.map_or(next_reap, |t| t.min(next_reap));
            // A change may bring a TTL that ends sooner.
            let _ = tokio::time::timeout_at(wake, changes.changed()).await;
        }
    }
}
