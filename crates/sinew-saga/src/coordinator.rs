//! One replica's part: claims sagas, keeps their leases, runs a task for each.

use crate::{
    boundary::{Probe, pass},
    definition::{Data, Definition, Instance},
    drive::drive,
    meter::Meter,
    sagas::{Error, Sagas},
    schema::migrations,
    store::{self, Row},
};
use chrono::{DateTime, TimeDelta, Utc};
use sinew_core::{Clock, Rng};
use sinew_sql::Db;
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    hash::{BuildHasherDefault, DefaultHasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::JoinMap};
use uuid::Uuid;

/// How a coordinator works.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a saga stays with a silent owner. 2.5 s: with one `scan` another has it within 3 s. Renewed three times
    /// in that time, so that two renewals may fail.
    pub lease: Duration,
    /// How often to look for sagas that nobody drives. 250 ms: a look is one indexed read.
    pub scan: Duration,
    /// Sagas driven at once, those that wait for another try included. 1,024: a task and a row of memory each.
    pub places: usize,
    /// Calls to participants under way at once. 64: enough to hide their latency, few enough not to flood one that just
    /// came back.
    pub calls: usize,
    /// How long the sagas may take to reach a boundary when the process ends; others take over whatever did not. 3 s.
    pub drain: Duration,
    /// For tests: see [`Probe`].
    pub probe: Option<Probe>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_millis(2_500),
            scan: Duration::from_millis(250),
            places: 1_024,
            calls: 64,
            drain: Duration::from_secs(3),
            probe: None,
        }
    }
}

/// One task a saga. Hashed by fixed keys, so that a simulation ends them in the same order each time; ids are our own, so
/// nobody chooses those that collide.
type Tasks = JoinMap<Uuid, (), BuildHasherDefault<DefaultHasher>>;

/// Sagas claimed in one transaction: it holds SQLite's only writer for some milliseconds.
const AT_ONCE: usize = 256;

/// What coordinator, handles and tasks share.
pub(crate) struct Shared<D> {
    pub(crate) db: Db,
    pub(crate) definition: Definition<D>,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    /// Unique to this coordinator: a restarted process is somebody else.
    pub(crate) owner: String,
    pub(crate) meter: Meter,
    pub(crate) calls: Semaphore,
    /// Somebody should look for sagas now.
    pub(crate) look: Notify,
    /// Set when no further step should begin.
    pub(crate) draining: CancellationToken,
    places: Arc<Semaphore>,
    born: mpsc::UnboundedSender<(Row, OwnedSemaphorePermit)>,
    /// Tasks of this replica by saga, to wake those that wait for another try.
    waiting: Mutex<BTreeMap<Uuid, Arc<Notify>>>,
}

/// Drives the sagas of one kind. Any number of replicas may do so on one database.
pub struct Coordinator<D> {
    shared: Arc<Shared<D>>,
    // Bounded by the places: each entry holds one.
    born: mpsc::UnboundedReceiver<(Row, OwnedSemaphorePermit)>,
}

impl<D> fmt::Debug for Coordinator<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator").field("owner", &self.shared.owner).field("definition", &self.shared.definition).finish()
    }
}

impl<D: Data> Coordinator<D> {
    /// Brings the tables up to date; nothing runs before [`run`](Self::run).
    pub async fn new(
        db: Db,
        definition: Definition<D>,
        config: Config,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> sinew_sql::Result<Self> {
        db.migrate(&migrations()).await?;
        let (born, receiver) = mpsc::unbounded_channel();
        let shared = Shared {
            owner: Uuid::now_v7().to_string(),
            meter: Meter::new(definition.name),
            calls: Semaphore::new(config.calls),
            look: Notify::new(),
            draining: CancellationToken::new(),
            places: Arc::new(Semaphore::new(config.places)),
            born,
            waiting: Mutex::default(),
            db,
            definition,
            config,
            clock,
            rng,
        };
        Ok(Self { shared: Arc::new(shared), born: receiver })
    }

    /// To start, cancel and look at sagas.
    pub fn sagas(&self) -> Sagas<D> {
        Sagas::new(self.shared.clone())
    }

    /// Drives sagas until `shutdown`, then lets those under way reach a boundary and gives them back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all work at once, as a crash would: others take over when the leases end.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let shared = self.shared.clone();
        let mut tasks = Tasks::with_hasher(BuildHasherDefault::default());
        let mut scan = interval(shared.config.scan);
        let mut renew = interval(shared.config.lease / 3);
        // Gauges may be some seconds old.
        let mut meter = interval(Duration::from_secs(5));
        for ticks in [&mut scan, &mut renew, &mut meter] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = renew.tick() => shared.renew(&mut tasks).await,
                Some((id, ended)) = tasks.join_next() => shared.ended(id, ended),
                Some((row, place)) = self.born.recv() => shared.spawn(row, place, &mut tasks),
                () = shared.look.notified() => shared.claim(&mut tasks).await,
                _ = scan.tick() => shared.claim(&mut tasks).await,
                _ = meter.tick() => if let Err(error) = shared.meter.read(&shared.db, shared.now()).await {
                    tracing::debug!(%error, "sagas not counted");
                },
            }
        }
        shared.draining.cancel();
        let drained = timeout(shared.config.drain, async { while tasks.join_next().await.is_some() {} }).await;
        tasks.shutdown().await;
        match store::release(&shared.db, &shared.owner, shared.now()).await {
            Ok(released) => {
                tracing::info!(saga = shared.definition.name, released, drained = drained.is_ok(), "coordinator stopped")
            }
            Err(error) => tracing::warn!(%error, "sagas not given back; others take over when the leases end"),
        }
    }
}

impl<D> Shared<D> {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        sinew_sql::now(&*self.clock)
    }

    pub(crate) fn lease(&self) -> TimeDelta {
        TimeDelta::from_std(self.config.lease).unwrap_or(TimeDelta::MAX)
    }

    /// Room for one more saga, unless this replica is full or ending.
    pub(crate) fn reserve_place(&self) -> Option<OwnedSemaphorePermit> {
        if self.draining.is_cancelled() || self.born.is_closed() {
            return None;
        }
        self.places.clone().try_acquire_owned().ok()
    }

    /// A saga was written as ours.
    pub(crate) fn born(&self, row: Row, place: OwnedSemaphorePermit) {
        // Without a coordinator its lease ends and another takes it.
        let _ = self.born.send((row, place));
    }

    /// Wakes the saga's task if it waits here for another try.
    pub(crate) fn poke(&self, id: Uuid) {
        if let Some(wake) = self.waiting().get(&id) {
            wake.notify_one();
        }
    }

    pub(crate) fn waiting(&self) -> MutexGuard<'_, BTreeMap<Uuid, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Data> Shared<D> {
    pub(crate) fn instance(&self, row: &Row) -> Result<Instance<D>, Error> {
        let id = row.saga_id;
        let data = serde_json::from_value(row.data.clone()).map_err(|source| Error::Data { id, source })?;
        Ok(Instance { id, data: Arc::new(data), outputs: row.outputs.0.clone() })
    }

    async fn claim(self: &Arc<Self>, tasks: &mut Tasks) {
        let free = self.places.available_permits();
        if free == 0 {
            return;
        }
        let now = self.now();
        let limit = free.min(AT_ONCE);
        let due = now + self.lease();
        match store::claim(&self.db, self.definition.name, &self.owner, now, due, limit.try_into().unwrap_or(i64::MAX)).await {
            Ok(rows) => {
                if rows.len() == limit {
                    self.look.notify_one();
                }
                for row in rows {
                    // Newborn ones may have taken the place meanwhile; then the lease ends and somebody else has room.
                    let Some(place) = self.reserve_place() else { break };
                    self.spawn(row, place, tasks);
                }
            }
            Err(error) => tracing::warn!(%error, saga = self.definition.name, "cannot look for sagas; trying again"),
        }
    }

    fn spawn(self: &Arc<Self>, row: Row, place: OwnedSemaphorePermit, tasks: &mut Tasks) {
        if row.epoch > 1 {
            self.meter.takeovers.fetch_add(1, Relaxed);
            tracing::info!(saga_id = %row.saga_id, epoch = row.epoch, "took over a saga");
        }
        let (id, shared) = (row.saga_id, self.clone());
        // A task of an older epoch is replaced, which ends it.
        tasks.spawn(id, async move {
            drive(&shared, row).await;
            drop(place);
        });
    }

    async fn renew(&self, tasks: &mut Tasks) {
        pass(&self.definition.renewal(), self.config.probe.as_ref()).await;
        let ids: Vec<Uuid> = tasks.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        match store::renew(&self.db, &self.owner, &ids, self.now() + self.lease()).await {
            Ok(kept) => {
                let kept: HashSet<Uuid> = kept.into_iter().collect();
                // Taken over by another, so that whatever the task still does is refused; or ended just now.
                for lost in ids.iter().filter(|id| !kept.contains(id)) {
                    tasks.abort(lost);
                }
            }
            Err(error) => tracing::warn!(%error, saga = self.definition.name, "leases not renewed; trying again"),
        }
    }

    fn ended(&self, id: Uuid, ended: Result<(), tokio::task::JoinError>) {
        self.waiting().remove(&id);
        if ended.is_err_and(|error| error.is_panic()) {
            tracing::error!(saga_id = %id, "a saga's task panicked; it is tried again when its lease ends");
        }
    }
}
