//! One destination: what its calls share, and the task that keeps it current.
//!
//! The task follows the registry's watch, keeps a connection to every registered endpoint, and publishes one
//! [`Snapshot`] whenever any of that changes. A change of the registry leaves unrelated connections alone; an endpoint
//! is the same as before if its id and address are.

use crate::{
    backoff, balance,
    breaker::Breaker,
    client::Ports,
    config::Config,
    connection::{self, Connection, Event, Happened},
    endpoint::Endpoint,
    method::Methods,
    retry::{Budget, Throttle},
    snapshot::{Member, Phase, Snapshot},
};
use arc_swap::ArcSwap;
use http::uri::Authority;
use sinew_core::{Endpoint as Registered, Policies, ServiceName, State};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

/// What all channels of one service share; ends its task when the last of them, and the client, are gone.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

/// The half that calls read.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) service: ServiceName,
    pub(crate) authority: Authority,
    pub(crate) config: Arc<Config>,
    pub(crate) ports: Ports,
    pub(crate) methods: Methods,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Counts snapshots, for calls that wait for the next one.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) budget: Budget,
    pub(crate) throttle: Option<Throttle>,
    grow: Notify,
    random: AtomicU64,
}

impl Destination {
    /// Starts following `service`; needs a running tokio runtime.
    pub(crate) fn start(service: &ServiceName, ports: &Ports, config: &Arc<Config>, policies: &Arc<Policies>) -> Self {
        let policy = policies.destination(service);
        let picker = balance::picker(policy.and_then(|p| p.balancing));
        let snapshot = Snapshot::new(State::Unknown, Vec::new(), picker);
        // A service name is a DNS label, and every DNS label an authority.
        let authority = Authority::try_from(service.as_str()).unwrap_or(Authority::from_static("invalid"));
        let shared = Arc::new(Shared {
            service: service.clone(),
            authority,
            config: config.clone(),
            ports: ports.clone(),
            methods: Methods::new(service, policies.clone()),
            snapshot: ArcSwap::from_pointee(snapshot),
            changed: watch::Sender::new(0),
            budget: Budget::new(&config.retry, Instant::now()),
            throttle: policy.and_then(|p| p.throttling).map(Throttle::new),
            grow: Notify::new(),
            random: AtomicU64::new(ports.rng.next_u64()),
        });
        let keeper = Keeper::new(shared.clone(), ports.discover.watch(service));
        Self { shared, _task: AbortOnDropHandle::new(tokio::spawn(keeper.run())) }
    }
}

impl Shared {
    /// A random number without a lock: SplitMix64 over a shared counter, seeded by the client's generator.
    pub(crate) fn random(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A call found every stream of this endpoint taken.
    pub(crate) fn crowded(&self, endpoint: &Endpoint) {
        if !endpoint.crowded.swap(true, Relaxed) {
            self.grow.notify_one();
        }
    }
}

/// Keeps one destination current.
struct Keeper {
    shared: Arc<Shared>,
    registry: watch::Receiver<Arc<sinew_core::Snapshot>>,
    /// By registration id.
    slots: BTreeMap<Arc<str>, Slot>,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    /// The connections' tasks: they end with this one.
    tasks: JoinSet<()>,
    next_number: u64,
}

/// One registered endpoint and its connections.
struct Slot {
    registered: Arc<Registered>,
    endpoint: Arc<Endpoint>,
    conns: Vec<Conn>,
    /// Failed attempts in a row, and why the latest failed.
    failures: u32,
    error: Arc<str>,
}

struct Conn {
    number: u64,
    task: AbortHandle,
    stage: Stage,
}

enum Stage {
    /// Backing off until the next attempt.
    Waiting,
    Dialing,
    Open {
        connection: Arc<Connection>,
        suspect: bool,
    },
}

impl Keeper {
    fn new(shared: Arc<Shared>, registry: watch::Receiver<Arc<sinew_core::Snapshot>>) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        Self { shared, registry, slots: BTreeMap::new(), events, inbox, tasks: JoinSet::new(), next_number: 0 }
    }

    async fn run(mut self) {
        self.reconcile();
        loop {
            self.publish();
            let shared = self.shared.clone();
            tokio::select! { biased;
                changed = self.registry.changed() => match changed {
                    Ok(()) => self.reconcile(),
                    // The registry's side is gone: what is known stays, and so does this task.
                    Err(_) => self.without_registry().await,
                },
                Some(event) = self.inbox.recv() => self.handle(event),
                () = shared.grow.notified() => self.grow(),
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    async fn without_registry(&mut self) {
        tracing::warn!(service = %self.shared.service, "the registry's watch has ended; its last answer stays");
        let shared = self.shared.clone();
        loop {
            self.publish();
            tokio::select! { biased;
                Some(event) = self.inbox.recv() => self.handle(event),
                () = shared.grow.notified() => self.grow(),
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    // === the registry ===

    /// Brings endpoints in line with the registry's latest answer.
    fn reconcile(&mut self) {
        let latest = self.registry.borrow_and_update().clone();
        if latest.state == State::Unknown {
            return;
        }
        let wanted: BTreeMap<_, _> = latest.endpoints.iter().map(|e| (e.id.clone(), e.clone())).collect();
        self.slots.retain(|id, slot| {
            let stays = wanted.get(id).is_some_and(|e| e.same_address(&slot.registered));
            if !stays {
                slot.drain();
            }
            stays
        });
        for (id, registered) in wanted {
            match self.slots.remove(&id) {
                Some(mut slot) => {
                    // News of this endpoint may mean that it is back: do not sit out the backoff.
                    let news = slot.registered != registered;
                    slot.registered = registered;
                    if news {
                        self.hurry(&mut slot);
                    }
                    self.slots.insert(id, slot);
                }
                None => {
                    let mut slot = self.slot(registered);
                    self.connect(&mut slot, Duration::ZERO);
                    self.slots.insert(id, slot);
                }
            }
        }
    }

    fn slot(&mut self, registered: Arc<Registered>) -> Slot {
        let endpoint = Endpoint {
            number: self.number(),
            name: registered.to_string().into(),
            breaker: Breaker::new(self.shared.config.breaker, Instant::now()),
            in_flight: Default::default(),
            crowded: Default::default(),
        };
        tracing::debug!(service = %self.shared.service, endpoint = %endpoint.name, "endpoint appeared");
        Slot { registered, endpoint: Arc::new(endpoint), conns: Vec::new(), failures: 0, error: "".into() }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    // === connections ===

    fn connect(&mut self, slot: &mut Slot, after: Duration) {
        let number = self.number();
        let spec = connection::Spec {
            key: (slot.endpoint.number, number),
            endpoint: slot.registered.clone(),
            after,
            connector: self.shared.ports.connector.clone(),
            config: self.shared.config.connection.clone(),
        };
        let task = self.tasks.spawn(connection::run(spec, self.events.clone()));
        let stage = if after.is_zero() { Stage::Dialing } else { Stage::Waiting };
        slot.conns.push(Conn { number, task, stage });
    }

    /// Ends a backoff.
    fn hurry(&mut self, slot: &mut Slot) {
        if let Some(at) = slot.conns.iter().position(|c| matches!(c.stage, Stage::Waiting)) {
            slot.conns.remove(at).task.abort();
            self.connect(slot, Duration::ZERO);
        }
    }

    fn handle(&mut self, Event { key: (endpoint, number), happened }: Event) {
        // Events of endpoints and connections that are no longer ours are the past.
        let Some(id) = self.slots.iter().find(|(_, s)| s.endpoint.number == endpoint).map(|(id, _)| id.clone()) else { return };
        let Some(mut slot) = self.slots.remove(&id) else { return };
        if let Some(at) = slot.conns.iter().position(|c| c.number == number) {
            self.follow(&mut slot, at, happened);
        }
        self.slots.insert(id, slot);
    }

    /// What `happened` means for the connection at this position.
    fn follow(&mut self, slot: &mut Slot, at: usize, happened: Happened) {
        let name = slot.endpoint.name.clone();
        let Some(conn) = slot.conns.get_mut(at) else { return };
        match happened {
            Happened::Dialing => conn.stage = Stage::Dialing,
            Happened::Ready(connection) => {
                conn.stage = Stage::Open { connection, suspect: false };
                slot.failures = 0;
                slot.endpoint.crowded.store(false, Relaxed);
                slot.endpoint.breaker.reconnected();
                tracing::info!(service = %self.shared.service, endpoint = %name, "connected");
            }
            Happened::Suspect(now) => {
                if let Stage::Open { suspect, .. } = &mut conn.stage {
                    *suspect = now;
                }
                tracing::info!(service = %self.shared.service, endpoint = %name, suspect = now, "keepalive");
            }
            Happened::Draining => {
                tracing::info!(service = %self.shared.service, endpoint = %name, "the server is leaving");
                // Its task finishes the streams it has. The server may be back on the same address at once.
                slot.conns.remove(at);
                self.replace(slot, Duration::ZERO);
            }
            Happened::Lost(lost) => {
                let was_open = matches!(conn.stage, Stage::Open { .. });
                slot.conns.remove(at);
                if was_open {
                    tracing::info!(service = %self.shared.service, endpoint = %name, reason = %lost, "connection lost");
                    self.replace(slot, Duration::ZERO);
                } else {
                    tracing::debug!(service = %self.shared.service, endpoint = %name, reason = %lost, "no connection");
                    slot.failures += 1;
                    slot.error = lost.to_string().into();
                    let config = &self.shared.config.connection;
                    let wait = backoff::delay(slot.failures, config.backoff_min, config.backoff_max, &*self.shared.ports.rng);
                    self.replace(slot, wait);
                }
            }
        }
    }

    /// Connects again, unless other connections carry on well without this one.
    fn replace(&mut self, slot: &mut Slot, after: Duration) {
        if slot.conns.is_empty() || slot.endpoint.crowded.load(Relaxed) {
            self.connect(slot, after);
        }
    }

    /// Opens another connection to the endpoints whose streams are all taken.
    fn grow(&mut self) {
        let most = self.shared.config.connection.max_per_endpoint;
        let crowded: Vec<_> =
            self.slots.iter().filter(|(_, s)| s.endpoint.crowded.load(Relaxed)).map(|(id, _)| id.clone()).collect();
        for id in crowded {
            let Some(mut slot) = self.slots.remove(&id) else { continue };
            let all_open = slot.conns.iter().all(|c| matches!(c.stage, Stage::Open { .. }));
            if all_open && slot.conns.len() < most {
                self.connect(&mut slot, Duration::ZERO);
            }
            self.slots.insert(id, slot);
        }
    }

    // === the snapshot ===

    fn publish(&self) {
        let old = self.shared.snapshot.load();
        // Unknown only until the first answer: the watch never goes back to it.
        let state = self.registry.borrow().state;
        let members = self.slots.values().map(Slot::member).collect();
        self.shared.snapshot.store(Arc::new(Snapshot::new(state, members, old.picker.clone())));
        self.shared.changed.send_modify(|count| *count += 1);
    }
}

// === impl Slot ===

impl Slot {
    /// No new calls; those under way finish.
    fn drain(&self) {
        for conn in &self.conns {
            match &conn.stage {
                Stage::Open { connection, .. } => connection.retire(),
                Stage::Waiting | Stage::Dialing => conn.task.abort(),
            }
        }
    }

    fn member(&self) -> Member {
        let open = |wanted: bool| {
            self.conns.iter().filter_map(move |c| match &c.stage {
                Stage::Open { connection, suspect } if *suspect == wanted => Some(connection.clone()),
                _ => None,
            })
        };
        let (mut connections, suspects): (Vec<_>, Vec<_>) = (open(false).collect(), open(true).collect());
        let phase = if !connections.is_empty() {
            Phase::Ready { growing: self.conns.iter().any(|c| matches!(c.stage, Stage::Dialing)) }
        } else if !suspects.is_empty() {
            connections = suspects;
            Phase::Suspect
        } else if self.failures == 0 {
            Phase::Connecting
        } else {
            Phase::Failed(self.error.clone())
        };
        Member { registered: self.registered.clone(), endpoint: self.endpoint.clone(), phase, connections }
    }
}
