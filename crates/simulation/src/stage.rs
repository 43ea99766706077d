//! What all of one run share: its randomness, its clock, what is to befall whom, and what happened.

use sinew_core::{Clock, Rng, SharedRng, failpoint};
use sinew_sql::simulated::{Fate, Moment, Weather};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::runtime::{Handle, Id};

/// When every run begins.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// How bad it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Climate {
    /// The longest a transaction usually takes to begin or commit.
    pub(crate) delay: Duration,
    /// Of a thousand transactions, how many lose their connection somewhere.
    pub(crate) lost: u64,
    /// Of a thousand, how many wait past all leases before they begin.
    pub(crate) stalled: u64,
}

/// How long a transaction stalls: longer than any lease here.
const STALL: Duration = Duration::from_millis(1_500);

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) rng: SharedRng,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    climate: Climate,
    processes: HashMap<Id, &'static str>,
    /// Places where somebody dies, one after another.
    deaths: VecDeque<String>,
    dead: Vec<&'static str>,
    told: Vec<String>,
}

impl Stage {
    /// For this thread, whose failpoints it takes over.
    pub(crate) fn set(seed: u64, deaths: &[String], climate: Climate) -> Arc<Self> {
        let state = State { climate, deaths: deaths.iter().cloned().collect(), ..State::default() };
        let stage = Arc::new(Self { rng: SharedRng::seeded(seed), state: Mutex::new(state) });
        let visited = Arc::downgrade(&stage);
        failpoint::visited_by(move |place| visited.upgrade().is_some_and(|stage| stage.dies_at(place)));
        stage
    }

    pub(crate) fn climate(&self, climate: Climate) {
        self.state().climate = climate;
    }

    pub(crate) fn weather(self: &Arc<Self>) -> Weather {
        let stage = self.clone();
        Arc::new(move |moment| stage.fate(moment))
    }

    fn fate(&self, moment: Moment) -> Fate {
        let climate = self.state().climate;
        let millis = u64::try_from(climate.delay.as_millis()).unwrap_or(u64::MAX);
        let usual = Duration::from_millis(self.rng.below(millis + 1));
        let stalls = moment == Moment::Begin && self.rng.below(1_000) < climate.stalled;
        // Three moments share the misfortunes of one transaction.
        let fails = self.rng.below(3_000) < climate.lost;
        Fate { delay: if stalls { STALL } else { usual }, fails }
    }

    /// The process that runs here is this one, from now on until it dies.
    pub(crate) fn enter(&self, process: &'static str) {
        if let Some(here) = here() {
            self.state().processes.insert(here, process);
        }
    }

    fn dies_at(&self, place: &str) -> bool {
        let mut state = self.state();
        let Some(process) = here().and_then(|here| state.processes.get(&here).copied()) else { return false };
        // What is dead takes no further step.
        if state.dead.contains(&process) {
            return true;
        }
        let dies = state.deaths.front().is_some_and(|next| next == place);
        if dies {
            state.deaths.pop_front();
            state.dead.push(process);
            drop(state);
            self.tell(format!("{process} dies at {place}"));
        }
        dies
    }

    /// Those that died since the last look.
    pub(crate) fn dead(&self) -> Vec<&'static str> {
        self.state().dead.clone()
    }

    /// The body is gone: another may take its name.
    pub(crate) fn buried(&self, process: &str) {
        self.state().dead.retain(|dead| *dead != process);
    }

    /// Deaths that did not happen yet.
    pub(crate) fn to_come(&self) -> usize {
        self.state().deaths.len()
    }

    /// From within a simulated process.
    pub(crate) fn tell(&self, what: impl Into<String>) {
        self.tell_at(turmoil::sim_elapsed().unwrap_or_default(), what);
    }

    pub(crate) fn tell_at(&self, at: Duration, what: impl Into<String>) {
        self.state().told.push(format!("{:>6} {}", at.as_millis(), what.into()));
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.state().told.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each process has a runtime of its own.
fn here() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

/// Simulated time as a date.
#[derive(Debug)]
pub(crate) struct SimulatedClock;

impl Clock for SimulatedClock {
    fn now(&self) -> SystemTime {
        // Outside, after the end.
        const AFTER: Duration = Duration::from_secs(3_600);
        UNIX_EPOCH + EPOCH + turmoil::sim_elapsed().unwrap_or(AFTER)
    }
}
