//! The mesh's side of the registry: `Discover` for callers, `Register` for servers, over the simulated network.
//!
//! They keep to what the mesh's own client of Consul does, at a tenth of its times: the last good list stays whatever the
//! registry does, an empty list after a full one is doubted, a registry that is away or forgot is told when it listens, a drain
//! never hangs.

use super::{
    registry::{ask, list},
    world::World,
};
use crate::network::PORT;
use sinew_core::{
    BoxFuture, Discover, Endpoint, Health, Register, Registered, Registration, Rng, ServiceName, Snapshot, Standing, State,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

const MS: Duration = Duration::from_millis(1);

/// An empty list after a full one is believed after so long, and so long if the registry has lost everything.
const GRACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(7));

/// How often a server asks whether it is still known.
const UPKEEP: Duration = Duration::from_millis(100);

/// How long an answer that need not wait may take, and how long leaving may.
const PATIENCE: Duration = Duration::from_millis(300);

/// Pauses between questions that fail.
fn backoff(failures: u32, rng: &dyn Rng) -> Duration {
    (10 * MS).saturating_mul(1 << failures.min(6)).min(500 * MS).mul_f64(0.5 + rng.unit() / 2.0)
}

// === following ===

/// Who there is, as one caller sees it.
pub(super) struct Directory {
    pub(super) world: Arc<World>,
    pub(super) caller: usize,
    pub(super) list: watch::Sender<Arc<Snapshot>>,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Directory").field(&self.caller).finish()
    }
}

impl Discover for Directory {
    /// There is one service: it has many names, so that each caller has its own statistics.
    fn watch(&self, _: &ServiceName) -> watch::Receiver<Arc<Snapshot>> {
        self.list.subscribe()
    }
}

impl Directory {
    pub(super) fn new(world: Arc<World>, caller: usize) -> Self {
        Self { world, caller, list: watch::Sender::new(Arc::new(Snapshot::unknown())) }
    }

    /// Follows the registry until dropped.
    pub(super) async fn follow(&self) {
        let (mut index, mut highest, mut failures) = (0, 0, 0);
        // Since when the list has been empty, and until when that is doubted.
        let mut doubted: Option<Instant> = None;
        loop {
            let Ok((next, instances)) = list(index).await else {
                self.publish(State::Stale, None);
                index = 0;
                sleep(backoff(failures, &self.world.rng)).await;
                failures += 1;
                continue;
            };
            failures = 0;
            if instances.is_empty() && !self.list.borrow().endpoints.is_empty() {
                let grace = if next < highest { GRACE.1 } else { GRACE.0 };
                let until = *doubted.get_or_insert_with(|| Instant::now() + grace);
                if Instant::now() < until {
                    self.publish(State::Stale, None);
                    // Asked again, without waiting for a change.
                    (index, highest) = (0, next.max(1));
                    sleep(20 * MS).await;
                    continue;
                }
            }
            doubted = None;
            self.publish(State::Known, Some(instances));
            index = if next < index { 0 } else { next.max(1) };
            highest = next;
            sleep(5 * MS).await;
        }
    }

    /// Shows a new list, or the last one with another state; what is as before is not shown again.
    fn publish(&self, state: State, instances: Option<BTreeMap<String, bool>>) {
        let endpoint = |(id, passes): (&String, &bool)| {
            let health = if *passes { Health::Passing } else { Health::Critical };
            Arc::new(Endpoint { health, ..Endpoint::new(id, id, PORT) })
        };
        let old = self.list.borrow().clone();
        let endpoints = match &instances {
            Some(instances) => instances.iter().map(endpoint).collect(),
            None => old.endpoints.clone(),
        };
        // Nothing was known: an unreachable registry changes nothing.
        let new = if old.state == State::Unknown && instances.is_none() { State::Unknown } else { state };
        let new = Snapshot { state: new, endpoints };
        if *old != new {
            if let Some(instances) = instances {
                self.world.lists(self.caller, instances);
            }
            self.list.send_replace(Arc::new(new));
        }
    }
}

// === being known ===

/// Where servers make themselves known.
#[derive(Debug)]
pub(super) struct Announcer(pub(super) Arc<World>);

impl Register for Announcer {
    fn register(&self, registration: Registration) -> Box<dyn Registered> {
        let announced = Arc::new(Announced {
            id: registration.id,
            world: self.0.clone(),
            leaving: AtomicBool::new(false),
            standing: watch::Sender::default(),
        });
        let task = AbortOnDropHandle::new(tokio::spawn(upkeep(announced.clone())));
        Box::new(Announcement { announced, task })
    }
}

/// Tells the registry, and again when it forgot.
async fn upkeep(me: Arc<Announced>) {
    let (mut told, mut failures) = (false, 0);
    loop {
        match me.tell(&mut told).await {
            Ok(()) => {
                failures = 0;
                me.standing.send_replace(Standing::Registered);
                sleep(UPKEEP).await;
            }
            Err(error) => {
                let why = error.to_string();
                me.standing.send_replace(if told { Standing::Stale(why) } else { Standing::Waiting(why) });
                sleep(backoff(failures, &me.world.rng)).await;
                failures += 1;
            }
        }
        if !told && me.leaving.load(Relaxed) {
            return;
        }
    }
}

#[derive(Debug)]
struct Announced {
    id: String,
    world: Arc<World>,
    leaving: AtomicBool,
    standing: watch::Sender<Standing>,
}

impl Announced {
    async fn tell(&self, told: &mut bool) -> anyhow::Result<()> {
        let id = &self.id;
        if *told && ask(&format!("knows {id}"), PATIENCE).await?.first().is_some_and(|line| line == "1") {
            return Ok(());
        }
        ask(&format!("register {id}"), PATIENCE).await?;
        *told = true;
        if self.leaving.load(Relaxed) {
            ask(&format!("leave {id}"), PATIENCE).await?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Announcement {
    announced: Arc<Announced>,
    task: AbortOnDropHandle<()>,
}

impl Registered for Announcement {
    fn standing(&self) -> watch::Receiver<Standing> {
        self.announced.standing.subscribe()
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let Announced { id, world, leaving, standing } = &*self.announced;
            leaving.store(true, Relaxed);
            if !standing.borrow().is_announced() {
                return;
            }
            let left = async {
                while ask(&format!("leave {id}"), PATIENCE).await.is_err() {
                    sleep(backoff(0, &world.rng)).await;
                }
                while !list(0).await.is_ok_and(|(_, list)| list.get(id) != Some(&true)) {
                    sleep(backoff(0, &world.rng)).await;
                }
            };
            // It goes on without the registry's word.
            let _ = timeout(PATIENCE, left).await;
        })
    }

    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { announced, task } = *self;
            // First, or it would announce us again.
            drop(task);
            let _ = ask(&format!("remove {}", announced.id), PATIENCE).await;
        })
    }
}

/// Owns what follows a list.
pub(super) fn followed(directory: &Arc<Directory>) -> JoinSet<()> {
    let (mut tasks, directory) = (JoinSet::new(), directory.clone());
    tasks.spawn(async move { directory.follow().await });
    tasks
}
