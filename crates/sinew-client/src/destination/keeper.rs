//! The task that keeps a destination current.
//!
//! It follows the registry's watch, keeps a connection to every registered endpoint, and publishes one [`Snapshot`]
//! whenever any of that changes. A change of the registry leaves unrelated connections alone; an endpoint is the same
//! as before if its id and address are.

use super::Shared;
use crate::{
    backoff,
    config::ConnectionConfig,
    connection::{self, Connection, Event, Happened},
    endpoint::Endpoint,
    latency::{self, Latency},
    outlier::Detector,
    snapshot::{Member, Phase, Snapshot},
};
use sinew_core::{Endpoint as Registered, Health, State};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};
use xxhash_rust::xxh64::xxh64;

/// Keeps one destination current.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    registry: watch::Receiver<Arc<sinew_core::Snapshot>>,
    /// By registration id.
    slots: BTreeMap<Arc<str>, Slot>,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    outliers: Option<Outliers>,
    /// The connections' tasks: they end with this one.
    tasks: JoinSet<()>,
    next_number: u64,
}

/// Who fails far more often than the rest, and when to look next.
struct Outliers {
    detector: Detector,
    next: Instant,
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
        since: Instant,
    },
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, registry: watch::Receiver<Arc<sinew_core::Snapshot>>) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        let outliers = shared.outliers.as_ref().map(Detector::new);
        let outliers = outliers.map(|detector| Outliers { next: Instant::now() + detector.interval(), detector });
        Self { shared, registry, slots: BTreeMap::new(), events, inbox, outliers, tasks: JoinSet::new(), next_number: 0 }
    }

    pub(super) async fn run(mut self) {
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
                () = due(&self.outliers) => self.look_for_outliers(),
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
                () = due(&self.outliers) => self.look_for_outliers(),
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
        let wanted = subset(&latest.endpoints, self.shared.subset);
        let wanted: BTreeMap<_, _> = wanted.into_iter().map(|e| (e.id.clone(), e.clone())).collect();
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
        let now = Instant::now();
        let endpoint = Endpoint {
            number: self.number(),
            name: registered.to_string().into(),
            breakers: self.shared.breakers.breakers(now),
            latency: Latency::new(self.shared.policy.decay(), now),
            tally: Default::default(),
            in_flight: Default::default(),
            all_in_flight: self.shared.in_flight.clone(),
            breakers_opened: self.shared.series.breakers_opened.clone(),
            crowded: Default::default(),
            made: now,
            connected_ms: Default::default(),
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
                conn.stage = Stage::Open { connection, suspect: false, since: Instant::now() };
                let first = slot.conns.iter().filter(|conn| matches!(conn.stage, Stage::Open { .. })).count() == 1;
                slot.failures = 0;
                slot.endpoint.crowded.store(false, Relaxed);
                slot.endpoint.breakers.reconnected();
                if first {
                    slot.endpoint.latency.forget(Instant::now());
                    slot.endpoint.connected(Instant::now());
                }
                tracing::info!(service = %self.shared.service, endpoint = %name, "connected");
            }
            Happened::Suspect(now) => {
                if let Stage::Open { suspect, .. } = &mut conn.stage {
                    *suspect = now;
                }
                if !now {
                    // What it was silent for is over.
                    slot.endpoint.latency.forget(Instant::now());
                }
                tracing::info!(service = %self.shared.service, endpoint = %name, suspect = now, "keepalive");
            }
            Happened::Draining => {
                tracing::info!(service = %self.shared.service, endpoint = %name, "the server is leaving");
                // Its task finishes the streams it has. The server may be back on the same address at once.
                let wait = conn.stage.wait(&self.shared.config.connection);
                slot.conns.remove(at);
                self.replace(slot, wait);
            }
            Happened::Lost(lost) => {
                let was_open = matches!(conn.stage, Stage::Open { .. });
                let wait = conn.stage.wait(&self.shared.config.connection);
                slot.conns.remove(at);
                if was_open {
                    tracing::info!(service = %self.shared.service, endpoint = %name, reason = %lost, "connection lost");
                    self.replace(slot, wait);
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

    // === outliers ===

    fn look_for_outliers(&mut self) {
        let Some(Outliers { detector, next }) = &mut self.outliers else { return };
        let now = Instant::now();
        *next = now + detector.interval();
        let calls: Vec<_> = self.slots.values().map(|slot| (slot.endpoint.number, slot.endpoint.tally.take())).collect();
        for outlier in detector.look(now, &calls, &*self.shared.ports.rng) {
            self.shared.series.ejections.fetch_add(1, Relaxed);
            if let Some(slot) = self.slots.values().find(|slot| slot.endpoint.number == outlier) {
                tracing::info!(service = %self.shared.service, endpoint = %slot.endpoint.name, "ejected: it fails more than the others");
            }
        }
    }

    // === the snapshot ===

    fn publish(&self) {
        let old = self.shared.snapshot.load();
        // Unknown only until the first answer: the watch never goes back to it.
        let state = self.registry.borrow().state;
        let ejected = |slot: &Slot| self.outliers.as_ref().is_some_and(|o| o.detector.is_ejected(slot.endpoint.number));
        let members: Vec<_> = self.slots.values().map(|slot| slot.member(ejected(slot))).collect();
        self.shared.series.publish(&members);
        let snapshot = Snapshot::new(state, members, &*self.shared.policy, &self.shared.config.locality, Some(&old));
        latency::begin_at_the_median(snapshot.ready().map(|ready| &ready.endpoint.latency), Instant::now());
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.changed.send_modify(|count| *count += 1);
    }
}

/// The endpoints that this client uses: all, or those that come first in an order of its own (rendezvous hashing, gRFC A68).
/// When one leaves, one other comes for it; healthy ones come before those that fail their checks.
fn subset(all: &[Arc<Registered>], rule: Option<(usize, u64)>) -> Vec<&Arc<Registered>> {
    let mut all: Vec<_> = all.iter().collect();
    if let Some((size, seed)) = rule.filter(|(size, _)| *size < all.len()) {
        all.sort_by_cached_key(|e| (e.health == Health::Critical, xxh64(e.id.as_bytes(), seed)));
        all.truncate(size);
    }
    all
}

/// When it is time to look for outliers; never without a detector.
async fn due(outliers: &Option<Outliers>) {
    match outliers {
        Some(outliers) => sleep_until(outliers.next).await,
        None => std::future::pending().await,
    }
}

// === impl Stage ===

impl Stage {
    /// How long to wait before a connection that has worked is replaced: not at all, unless it hardly lived. A server
    /// that accepts, greets and leaves would otherwise be dialled as fast as the network allows.
    fn wait(&self, config: &ConnectionConfig) -> Duration {
        match self {
            Self::Open { since, .. } if since.elapsed() < config.backoff_min => config.backoff_min,
            _ => Duration::ZERO,
        }
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

    fn member(&self, ejected: bool) -> Member {
        let open = |wanted: bool| {
            self.conns.iter().filter_map(move |c| match &c.stage {
                Stage::Open { connection, suspect, .. } if *suspect == wanted => Some(connection.clone()),
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
        Member { registered: self.registered.clone(), endpoint: self.endpoint.clone(), phase, ejected, connections }
    }
}
