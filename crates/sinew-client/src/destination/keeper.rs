//! The task that keeps a destination current.
//!
//! It follows the registry's watch, keeps a connection to every registered endpoint, and publishes one [`Snapshot`]
//! whenever any of that changes. A change of the registry leaves unrelated connections alone; an endpoint is the same
//! as before if its id and address are. What the snapshot has of an endpoint is made when there is news of it, so that a
//! snapshot is a copy of pointers.

use super::{
    Shared,
    slot::{Conn, Slot, Stage},
    subset::subset,
};
use crate::{
    backoff,
    connection::{self, Event, Happened},
    endpoint::Endpoint,
    latency,
    outlier::Detector,
    snapshot::Snapshot,
};
use sinew_core::{Endpoint as Registered, State};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Events that become one snapshot, at most: when ten thousand connections come or go at once, not each of them is worth
/// telling everybody's state anew, but calls should not wait for the last of them either.
const BATCH: usize = 256;

/// Keeps one destination current.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    registry: watch::Receiver<Arc<sinew_core::Snapshot>>,
    /// By registration id.
    slots: BTreeMap<Arc<str>, Slot>,
    /// Endpoints of which there is news since the last snapshot.
    news: Vec<Arc<Endpoint>>,
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

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, registry: watch::Receiver<Arc<sinew_core::Snapshot>>) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        let outliers = shared.outliers.as_ref().map(Detector::new);
        let outliers = outliers.map(|detector| Outliers { next: Instant::now() + detector.interval(), detector });
        Self {
            shared,
            registry,
            slots: BTreeMap::new(),
            news: Vec::new(),
            events,
            inbox,
            outliers,
            tasks: JoinSet::new(),
            next_number: 0,
        }
    }

    pub(super) async fn run(mut self) {
        self.reconcile();
        self.publish();
        let mut events = Vec::new();
        loop {
            let shared = self.shared.clone();
            tokio::select! { biased;
                changed = self.registry.changed() => match changed {
                    Ok(()) => self.reconcile(),
                    // The registry's side is gone: what is known stays, and so does this task.
                    Err(_) => self.without_registry().await,
                },
                _ = self.inbox.recv_many(&mut events, BATCH) => events.drain(..).for_each(|event| self.handle(event)),
                () = shared.grow.notified() => self.grow(),
                () = due(&self.outliers) => self.look_for_outliers(),
                Some(_) = self.tasks.join_next() => continue,
            }
            self.publish();
        }
    }

    async fn without_registry(&mut self) {
        tracing::warn!(service = %self.shared.service, "the registry's watch has ended; its last answer stays");
        let (shared, mut events) = (self.shared.clone(), Vec::new());
        loop {
            tokio::select! { biased;
                _ = self.inbox.recv_many(&mut events, BATCH) => events.drain(..).for_each(|event| self.handle(event)),
                () = shared.grow.notified() => self.grow(),
                () = due(&self.outliers) => self.look_for_outliers(),
                Some(_) = self.tasks.join_next() => continue,
            }
            self.publish();
        }
    }

    // === the registry ===

    /// Brings endpoints in line with the registry's latest answer.
    fn reconcile(&mut self) {
        let latest = self.registry.borrow_and_update().clone();
        if latest.state == State::Unknown {
            return;
        }
        let wanted = subset(&latest.endpoints, self.shared.subset, self.shared.config.locality.panic_threshold);
        // Both are in order of id: one walk finds what came, what went and what is told anew.
        let (mut come, mut gone, mut told) = (Vec::new(), Vec::new(), Vec::new());
        let mut wanted = wanted.into_iter().peekable();
        for (id, slot) in &self.slots {
            come.extend(std::iter::from_fn(|| wanted.next_if(|registered| registered.id < *id)));
            match wanted.next_if(|registered| registered.id == *id) {
                Some(same) if Arc::ptr_eq(same, &slot.registered) || *same == slot.registered => {}
                Some(news) if news.same_address(&slot.registered) => told.push(news),
                moved => {
                    gone.push(id.clone());
                    come.extend(moved);
                }
            }
        }
        come.extend(wanted);
        for id in gone {
            let Some(slot) = self.slots.remove(&id) else { continue };
            slot.drain();
        }
        for registered in told {
            let Some(mut slot) = self.slots.remove(&registered.id) else { continue };
            slot.registered = registered.clone();
            // It may mean that the endpoint is back: do not sit out the backoff.
            self.hurry(&mut slot);
            self.keep(slot);
        }
        for registered in come {
            let mut slot = self.slot(registered.clone());
            self.connect(&mut slot, Duration::ZERO);
            self.keep(slot);
        }
    }

    fn slot(&mut self, registered: Arc<Registered>) -> Slot {
        let number = self.number();
        let endpoint = self.shared.endpoint(number, &registered, Instant::now());
        tracing::debug!(service = %self.shared.service, endpoint = %endpoint.name, "endpoint appeared");
        Slot::new(registered, Arc::new(endpoint), &self.shared.config.locality)
    }

    /// Puts it back among the others, with what is new of it.
    fn keep(&mut self, mut slot: Slot) {
        slot.tell(&self.shared.config.locality);
        self.news.push(slot.endpoint.clone());
        self.slots.insert(slot.registered.id.clone(), slot);
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
            connector: self.shared.connector.clone(),
            config: self.shared.config.clone(),
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

    fn handle(&mut self, Event { id, key: (endpoint, number), happened }: Event) {
        // Events of endpoints and connections that are no longer ours are the past.
        if self.slots.get(&id).is_none_or(|slot| slot.endpoint.number != endpoint) {
            return;
        }
        let Some(mut slot) = self.slots.remove(&id) else { return };
        if let Some(at) = slot.conns.iter().position(|c| c.number == number) {
            self.follow(&mut slot, at, happened);
        }
        self.keep(slot);
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
            self.keep(slot);
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
        for slot in self.slots.values_mut() {
            let ejected = detector.is_ejected(slot.endpoint.number);
            if ejected != slot.ejected {
                slot.ejected = ejected;
                slot.tell(&self.shared.config.locality);
            }
        }
    }

    // === the snapshot ===

    fn publish(&mut self) {
        let old = self.shared.snapshot.load();
        // Unknown only until the first answer: the watch never goes back to it.
        let state = self.registry.borrow().state;
        let members = self.slots.values().map(|slot| slot.member.clone()).collect();
        let snapshot = Snapshot::new(state, members, &*self.shared.policy, &self.shared.config.locality, Some(&old));
        self.shared.series.publish(&snapshot);
        let new = self.news.iter().map(|endpoint| &endpoint.latency);
        latency::begin_at_the_median(new, snapshot.ready().map(|ready| &ready.endpoint.latency), Instant::now());
        self.news.clear();
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.changed.notify_waiters();
    }
}

/// When it is time to look for outliers; never without a detector.
async fn due(outliers: &Option<Outliers>) {
    match outliers {
        Some(outliers) => sleep_until(outliers.next).await,
        None => std::future::pending().await,
    }
}
