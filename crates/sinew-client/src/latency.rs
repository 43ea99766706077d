//! How long calls to one endpoint take, for the balancer: peak EWMA.
//!
//! The cost of an endpoint jumps up to the time of a call that took longer, and falls towards shorter ones by an
//! exponential average; without calls it fades, so that the endpoint is tried again. Beside the time from a call's start
//! to its headers these count:
//!
//! - failures in a row, at least [`FAILURE`]: an endpoint that refuses everything at once is not the fastest. A single one
//!   doubles the cost: some calls fail everywhere, and whose turn that was last should not decide who gets calls;
//! - a call that was given up: what it had taken by then, unless the cost is higher already;
//! - a refusal with a time to come back (`grpc-retry-pushback-ms`): that time;
//! - silence: while calls wait, the time since an endpoint last answered one. One that is frozen has no new times to tell.
//!
//! A new endpoint, and one whose connection is new or came back from suspicion, begins at the median of the others:
//! neither shunned nor, as an unknown time of nothing would be, run down. Calls that began before that no longer count.
//!
//! All of it is a few atomics: cost and time of the last change are one word, changed by compare-and-exchange. `tests/loom` runs
//! them through every order of two threads' steps.

use crate::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;
use tokio::time::Instant;

/// What failures in a row count for at least.
pub(crate) const FAILURE: Duration = Duration::from_secs(1);

/// How long what was seen counts, by default. An endpoint that took 200 ms where others take half of one is tried again
/// after about 6 s, one that had a pause of some milliseconds after 2 s. Longer shuns the better for longer than it takes
/// them to recover; shorter tries the slow too often.
pub(crate) const DECAY: Duration = Duration::from_secs(1);

/// A server that asks for more peace than this is left alone by the fading of its cost anyway.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(10);

/// The lowest cost: below it calls are compared by how many wait.
const LEAST: f32 = 1.0;

/// One endpoint's latency.
#[derive(Debug)]
pub(crate) struct Latency {
    /// [`Cost`], packed.
    word: AtomicU64,
    /// Calls that wait for their headers.
    waiting: AtomicU32,
    /// When it last answered, or since when somebody waits: ticks.
    heard: AtomicU32,
    /// What began before does not count: microseconds after `zero`.
    since: AtomicU64,
    /// Failures in a row.
    failures: AtomicU32,
    zero: Instant,
    /// In microseconds.
    decay: f32,
}

/// Microseconds, and the tick at which they were so; below 0 as long as nothing is known.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    micros: f32,
    tick: u32,
}

/// Microseconds of a tick, as a power of two. Ticks wrap after 76 hours: whoever nobody called for just that long counts as
/// just heard, for one pick.
const TICK: u32 = 6;

/// What a thread whose time is older may lag behind, in ticks: a minute. More is time that has passed.
const LAG: u32 = 60_000_000 >> TICK;

impl Latency {
    /// What is seen fades to 1/e within `decay`.
    pub(crate) fn new(decay: Duration, now: Instant) -> Self {
        let word = AtomicU64::new(Cost::unknown(0).pack());
        let counter = || AtomicU32::new(0);
        Self {
            word,
            waiting: counter(),
            heard: counter(),
            since: AtomicU64::new(0),
            failures: counter(),
            zero: now,
            decay: decay.as_micros() as f32,
        }
    }

    /// A call is sent.
    pub(crate) fn began(&self, now: Instant) {
        // Told first: whoever sees the call wait must not take the time without any for silence.
        if self.waiting.load(Relaxed) == 0 {
            self.heard.store(self.tick(now), Relaxed);
        }
        self.waiting.fetch_add(1, Release);
    }

    /// Its headers have come.
    pub(crate) fn answered(&self, began: Instant, now: Instant) {
        self.waiting.fetch_sub(1, Relaxed);
        let now = self.micros(now);
        self.heard.store(tick(now), Relaxed);
        self.change(began, now, |took, old, kept| if took > old { took } else { old * kept + took * (1.0 - kept) });
    }

    /// It ended without headers: the connection broke, or the caller gave up.
    pub(crate) fn given_up(&self, began: Instant, now: Instant) {
        self.waiting.fetch_sub(1, Relaxed);
        self.change(began, self.micros(now), |took, old, kept| took.max(old * kept));
    }

    /// It failed; what its time counts for is told already.
    pub(crate) fn failed(&self, began: Instant, now: Instant) {
        if self.is_over(self.micros(began)) {
            return;
        }
        let again = self.failures.fetch_add(1, Relaxed) > 0;
        let least = if again { FAILURE.as_micros() as f32 } else { 0.0 };
        self.change(began, self.micros(now), |_, old, kept| (2.0 * old * kept).max(least).max(LEAST));
    }

    /// It refused a call and said when to come back: until then it costs as much as waiting for that.
    pub(crate) fn pushed_back(&self, wait: Duration, now: Instant) {
        let wait = wait.min(LONGEST_PUSHBACK).as_micros() as f32;
        self.change(now, self.micros(now), |_, old, kept| wait.max(old * kept));
    }

    /// It succeeded.
    pub(crate) fn succeeded(&self) {
        if self.failures.load(Relaxed) > 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// What is known no longer counts: the endpoint begins anew.
    pub(crate) fn forget(&self, now: Instant) {
        self.since.store(self.micros(now), Relaxed);
        self.failures.store(0, Relaxed);
        self.heard.store(self.tick(now), Relaxed);
        // Last: whoever changes this word has seen since when calls count. A swap has its place among their changes.
        self.word.swap(Cost::unknown(self.tick(now)).pack(), Release);
    }

    /// Whether a call that began so many microseconds after `zero` is one of what was forgotten.
    fn is_over(&self, began: u64) -> bool {
        began < self.since.load(Relaxed)
    }

    fn is_known(&self) -> bool {
        !Cost::unpack(self.word.load(Relaxed)).is_unknown()
    }

    /// The cost, if anything is known.
    pub(crate) fn cost(&self, now: Instant) -> Option<f32> {
        self.cost_at(self.tick(now))
    }

    fn cost_at(&self, tick: u32) -> Option<f32> {
        let cost = Cost::unpack(self.word.load(Relaxed));
        (!cost.is_unknown()).then(|| cost.micros * self.kept(cost, tick))
    }

    /// Begins with this cost, unless something is known by now.
    pub(crate) fn begin(&self, micros: f32, now: Instant) {
        let (word, cost) = (self.word.load(Relaxed), Cost { micros, tick: self.tick(now) });
        if Cost::unpack(word).is_unknown() {
            // Known by now: better.
            let _ = self.word.compare_exchange(word, cost.pack(), Relaxed, Relaxed);
        }
    }

    /// What one more call must expect, to be compared with other endpoints' load.
    pub(crate) fn load(&self, now: Instant) -> f32 {
        let waiting = self.waiting.load(Acquire);
        let tick = self.tick(now);
        let mut cost = self.cost_at(tick).unwrap_or(LEAST).max(LEAST);
        if waiting > 0 {
            let silent = u64::from(after(self.heard.load(Relaxed), tick)) << TICK;
            cost = cost.max(silent as f32);
        }
        cost * (waiting + 1) as f32
    }

    /// Makes the new cost of what a call took, the old cost, and what share of it is left: microseconds all of them, and so is
    /// `now`, after `zero`.
    fn change(&self, began: Instant, now: u64, new: impl Fn(f32, f32, f32) -> f32) {
        let (began, tick) = (self.micros(began), tick(now));
        let took = now.saturating_sub(began) as f32;
        let mut word = self.word.load(Acquire);
        // Asked of each word: it may be one of a new connection by now.
        while !self.is_over(began) {
            let old = Cost::unpack(word);
            let (before, kept) = if old.is_unknown() { (0.0, 0.0) } else { (old.micros, self.kept(old, tick)) };
            let next = Cost { micros: new(took, before, kept), tick };
            match self.word.compare_exchange_weak(word, next.pack(), Relaxed, Acquire) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// What share of a cost is left at this tick.
    fn kept(&self, cost: Cost, tick: u32) -> f32 {
        let passed = u64::from(after(cost.tick, tick)) << TICK;
        (-(passed as f32) / self.decay).exp()
    }

    fn tick(&self, at: Instant) -> u32 {
        tick(self.micros(at))
    }

    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.zero).as_micros() as u64
    }
}

/// So many endpoints tell the median well enough.
const SAMPLE: usize = 101;

/// Gives those of the new ones of which nothing is known the median of all, or of a hundred of them evenly taken.
pub(crate) fn begin_at_the_median<'a>(
    new: impl Iterator<Item = &'a Latency>,
    all: impl Iterator<Item = &'a Latency> + Clone,
    now: Instant,
) {
    let unknown: Vec<_> = new.filter(|latency| !latency.is_known()).collect();
    if unknown.is_empty() {
        return;
    }
    let step = all.clone().count().div_ceil(SAMPLE).max(1);
    let mut known: Vec<f32> = all.step_by(step).filter_map(|latency| latency.cost(now)).collect();
    let middle = known.len() / 2;
    if known.is_empty() {
        return;
    }
    let (_, median, _) = known.select_nth_unstable_by(middle, f32::total_cmp);
    unknown.iter().for_each(|latency| latency.begin(*median, now));
}

/// The tick of so many microseconds.
fn tick(micros: u64) -> u32 {
    (micros >> TICK) as u32
}

/// Ticks from the one to the other; none if that was earlier, as seen by a thread whose time is a little older.
pub(crate) fn after(earlier: u32, later: u32) -> u32 {
    let ticks = later.wrapping_sub(earlier);
    if ticks > u32::MAX - LAG { 0 } else { ticks }
}

impl Cost {
    /// Since this tick: another word each time that a cost is forgotten, so that none is taken for an older one.
    fn unknown(tick: u32) -> Self {
        Self { micros: -1.0, tick }
    }

    fn is_unknown(self) -> bool {
        self.micros < 0.0
    }

    fn pack(self) -> u64 {
        u64::from(self.micros.to_bits()) << 32 | u64::from(self.tick)
    }

    fn unpack(word: u64) -> Self {
        Self { micros: f32::from_bits((word >> 32) as u32), tick: word as u32 }
    }
}
