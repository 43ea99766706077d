//! What all processes of one run share, and what happened in it.

use super::{
    echo::Kind,
    registry::{Catalogue, Whims},
};
use sinew_core::SharedRng;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// The registry's host.
pub(super) const REGISTRY: &str = "registry";
/// Those who call.
pub(super) const CALLERS: [&str; 2] = ["caller-0", "caller-1"];
/// Those who are called, of which a run has all or all but the first.
pub(super) const SERVERS: [&str; 4] = ["server-0", "server-1", "server-2", "server-3"];

/// How a server takes its calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mood {
    /// So much longer than it should.
    pub(super) delay: Duration,
    /// It ends them all with this.
    pub(super) fails: Option<Code>,
}

/// One call, from beginning to end.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) caller: usize,
    pub(super) kind: Kind,
    pub(super) begun: Duration,
    /// What it was given.
    pub(super) timeout: Duration,
    pub(super) end: Option<End>,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) at: Duration,
    pub(super) how: How,
    /// Retries that the caller's budget refused meanwhile, of any of its calls.
    pub(super) refused: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// Answered by this server.
    Answered(String),
    /// The caller no longer wanted it.
    GivenUp,
    Failed(Code, String),
}

/// What is wrong with a server, for one caller or for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// What is sent to it, or by it, may be lost.
    Lost,
    /// It takes longer than calls have.
    Slow,
    /// It ends calls with this.
    Fails(Code),
    /// It has left in order: no call is lost, and none can be taken.
    Away,
}

/// Harm, and when.
#[derive(Debug, Clone)]
pub(super) struct Spell {
    pub(super) harm: Harm,
    pub(super) server: &'static str,
    /// Whom it concerns; everybody if nobody is named.
    pub(super) caller: Option<usize>,
    pub(super) from: Duration,
    pub(super) to: Option<Duration>,
}

/// What a caller has under way when it has nothing to do.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest {
    /// By the client's own description, and by its statistics of calls and of attempts.
    pub(super) described: usize,
    pub(super) calls: i64,
    pub(super) attempts: i64,
    /// What is not as it was in the beginning, in words.
    pub(super) endpoints: String,
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) calls: Vec<Call>,
    /// Which call, where and when: in the order of beginning.
    pub(super) executions: Vec<(u64, &'static str, Duration)>,
    pub(super) spells: Vec<Spell>,
    /// Per caller: when its list changed, and to what.
    pub(super) lists: [Vec<(Duration, BTreeMap<String, bool>)>; CALLERS.len()],
    /// Per caller: at the beginning of each call, how often it had repeated one.
    pub(super) retries: [Vec<(Duration, u64)>; CALLERS.len()],
    pub(super) rests: BTreeMap<usize, Rest>,
    /// Line by line, with the millisecond.
    pub(super) told: Vec<String>,
    /// Handlers at work.
    pub(super) running: usize,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: SharedRng,
    ledger: Mutex<Ledger>,
    moods: Mutex<BTreeMap<&'static str, Mood>>,
    drains: Mutex<BTreeMap<&'static str, CancellationToken>>,
    catalogue: Mutex<Catalogue>,
    whims: Mutex<Whims>,
    /// Wakes readers in the order in which they came; a `watch` would wake them in a random one, which is no replay.
    catalogue_changed: Arc<Notify>,
    /// No further call begins.
    pub(super) over: CancellationToken,
}

/// A handler at work, until dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<World>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ledger().running -= 1;
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            rng: SharedRng::seeded(seed),
            ledger: Mutex::default(),
            moods: Mutex::default(),
            drains: Mutex::default(),
            catalogue: Mutex::default(),
            whims: Mutex::default(),
            catalogue_changed: Arc::default(),
            over: CancellationToken::new(),
        })
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub(super) fn tell(&self, at: Duration, what: impl std::fmt::Display) {
        self.ledger().told.push(format!("{:>6} {what}", at.as_millis()));
    }

    // === servers ===

    pub(super) fn mood(&self, server: &str) -> Mood {
        lock(&self.moods).get(server).copied().unwrap_or_default()
    }

    pub(super) fn set_mood(&self, server: &'static str, mood: Mood) {
        lock(&self.moods).insert(server, mood);
    }

    /// A handler begins to work on a call.
    pub(super) fn executes(self: &Arc<Self>, call: u64, server: &'static str) -> Running {
        let at = now();
        let mut ledger = self.ledger();
        ledger.executions.push((call, server, at));
        ledger.told.push(format!("{:>6} {server} has {call}", at.as_millis()));
        ledger.running += 1;
        Running(self.clone())
    }

    /// A server's new process; cancelled when it is to drain.
    pub(super) fn enter(&self, server: &'static str) -> CancellationToken {
        let token = CancellationToken::new();
        lock(&self.drains).insert(server, token.clone());
        token
    }

    pub(super) fn drain(&self, server: &str) {
        if let Some(token) = lock(&self.drains).get(server) {
            token.cancel();
        }
    }

    /// Harm begins.
    pub(super) fn harmed(&self, harm: Harm, server: &'static str, caller: Option<usize>, from: Duration) {
        self.ledger().spells.push(Spell { harm, server, caller, from, to: None });
    }

    /// It ends.
    pub(super) fn healed(&self, harm: Harm, server: &'static str, caller: Option<usize>, to: Duration) {
        let same = |spell: &&mut Spell| (spell.harm, spell.server, spell.caller, spell.to) == (harm, server, caller, None);
        if let Some(spell) = self.ledger().spells.iter_mut().rev().find(same) {
            spell.to = Some(to);
        }
    }

    // === the registry ===

    pub(super) fn catalogue<T>(&self, change: impl FnOnce(&mut Catalogue) -> T) -> T {
        let mut catalogue = lock(&self.catalogue);
        let before = catalogue.index;
        let done = change(&mut catalogue);
        if catalogue.index != before {
            self.catalogue_changed.notify_waiters();
        }
        done
    }

    /// Returns at the next change, or whim, after it was called.
    pub(super) fn catalogue_changes(&self) -> impl Future<Output = ()> + use<> {
        self.catalogue_changed.clone().notified_owned()
    }

    pub(super) fn whims(&self) -> Whims {
        lock(&self.whims).clone()
    }

    pub(super) fn set_whims(&self, set: impl FnOnce(&mut Whims)) {
        set(&mut lock(&self.whims));
        self.catalogue_changed.notify_waiters();
    }

    /// A caller's list has changed.
    pub(super) fn lists(&self, caller: usize, list: BTreeMap<String, bool>) {
        let at = now();
        let names: Vec<_> = list.iter().map(|(id, passes)| format!("{id}{}", if *passes { "" } else { "!" })).collect();
        self.tell(at, format_args!("{} lists {}", CALLERS[caller], names.join(" ")));
        self.ledger().lists[caller].push((at, list));
    }
}

/// Simulated time, within a process.
pub(super) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
