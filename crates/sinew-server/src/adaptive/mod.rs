//! A limit of calls under way that finds itself: what a call costs to be counted.
//!
//! [`gradient`] has the rule. Here are the counters that it is told: a call that is let in costs one addition and one
//! comparison, its end a subtraction and, if it was a success of a unary method, one addition to its method's sum. Whoever
//! ends a call after a window's end closes the window, and nobody waits for that.
//!
//! Limits: only successes count, because failures are quick and time-outs tell of their callers. A server none of whose
//! calls succeeds keeps the limit that it has.

mod gradient;
mod window;

use gradient::Gradient;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use window::{Calls, Next, Window};

/// Settings of a limit that follows latency. The defaults are meant to be right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveConcurrency {
    /// The lowest limit, at least 1. Default 10: fewer calls under way are no load, and their times say little.
    pub min_limit: usize,
    /// How many times as long calls may take, on (geometric) average, as when none waits for another; more than 1. Default 2:
    /// then there are about twice as many under way as are worked on, so that no worker waits for work.
    pub tolerance: f64,
    /// The shortest time over which calls are looked at. Default 100 ms, as Envoy's; longer where calls are slow or few.
    pub window: Duration,
    /// Time between measurements of what calls take when none waits, while the limit is in use. Default 30 s: each costs some
    /// half of one window's calls.
    pub probe_interval: Duration,
}

impl Default for AdaptiveConcurrency {
    fn default() -> Self {
        Self { min_limit: 10, tolerance: 2.0, window: Duration::from_millis(100), probe_interval: Duration::from_secs(30) }
    }
}

/// Counts what calls take, and has the limit that follows from it. Times are since whatever begin the caller likes.
#[derive(Debug)]
pub(crate) struct Adaptive {
    limit: AtomicUsize,
    /// Shows it.
    gauge: Arc<AtomicI64>,
    /// Most calls under way in this window.
    peak: AtomicUsize,
    refused: AtomicBool,
    /// End of this window, in nanoseconds.
    window_end: AtomicU64,
    /// When an experiment under way has lasted too long.
    patience_end: AtomicU64,
    /// Calls that began earlier do not count, ...
    fresh_from: AtomicU64,
    /// ... but as those that ended.
    stale: AtomicU64,
    /// By method: number and sum of the logarithms, [`packed`].
    sums: Box<[AtomicU64]>,
    rule: Mutex<Rule>,
}

#[derive(Debug)]
struct Rule {
    gradient: Gradient,
    /// The window's calls so far, where the last look found too few.
    calls: Box<[Calls]>,
}

impl Adaptive {
    /// For `methods` methods, with no limit below `most` until there is a reason for one.
    pub(crate) fn new(settings: AdaptiveConcurrency, most: usize, methods: usize, gauge: Arc<AtomicI64>) -> Self {
        gauge.store(shown(most), Relaxed);
        Self {
            limit: AtomicUsize::new(most),
            gauge,
            peak: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            window_end: AtomicU64::new(nanos(settings.window)),
            patience_end: AtomicU64::new(u64::MAX),
            fresh_from: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            sums: std::iter::repeat_with(AtomicU64::default).take(methods).collect(),
            rule: Mutex::new(Rule {
                gradient: Gradient::new(settings, most, methods),
                calls: std::iter::repeat_n(Calls::default(), methods).collect(),
            }),
        }
    }

    /// The limit of this moment.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// A call was let in; so many are under way now.
    pub(crate) fn admitted(&self, under_way: usize) {
        if under_way > self.peak.load(Relaxed) {
            self.peak.fetch_max(under_way, Relaxed);
        }
    }

    /// A call was refused.
    pub(crate) fn refused(&self, now: Duration) {
        self.refused.store(true, Relaxed);
        if nanos(now) >= self.patience_end.load(Relaxed) {
            self.abandon(now);
        }
    }

    /// Ends an experiment that no calls end: those under way may be long polls, and the limit of an experiment is low.
    #[cold]
    fn abandon(&self, now: Duration) {
        let Some(mut rule) = self.rule() else { return };
        if nanos(now) < self.patience_end.load(Relaxed) {
            return;
        }
        let Rule { gradient, calls } = &mut *rule;
        calls.fill(Calls::default());
        self.obey(gradient.abandon(now), now);
    }

    /// None if somebody else is at it: let him.
    fn rule(&self) -> Option<MutexGuard<'_, Rule>> {
        match self.rule.try_lock() {
            Ok(rule) => Some(rule),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn obey(&self, next: Next, now: Duration) {
        self.limit.store(next.limit, Relaxed);
        self.gauge.store(shown(next.limit), Relaxed);
        if next.fresh {
            self.fresh_from.store(nanos(now), Relaxed);
        }
        self.window_end.store(nanos(now + next.window), Relaxed);
        self.patience_end.store(next.patience.map_or(u64::MAX, |patience| nanos(now + patience)), Relaxed);
    }

    /// A call of this method has succeeded, and so many are under way without it.
    pub(crate) fn succeeded(&self, method: usize, began: Duration, now: Duration, under_way: usize) {
        if nanos(began) < self.fresh_from.load(Relaxed) {
            self.stale.fetch_add(1, Relaxed);
        } else if let Some(sum) = self.sums.get(method) {
            sum.fetch_add(packed(now.saturating_sub(began)), Relaxed);
        }
        if nanos(now) >= self.window_end.load(Relaxed) {
            self.close(now, under_way);
        }
    }

    #[cold]
    fn close(&self, now: Duration, under_way: usize) {
        let Some(mut rule) = self.rule() else { return };
        if nanos(now) < self.window_end.load(Relaxed) {
            return;
        }
        let Rule { gradient, calls } = &mut *rule;
        for (calls, sum) in calls.iter_mut().zip(&self.sums) {
            calls.add(sum.swap(0, Relaxed));
        }
        let count = calls.iter().map(|c| c.count).sum();
        if !gradient.enough(count) {
            // Ask again after a tenth, not at each call.
            let look = gradient.settings().window / 10;
            self.window_end.store(nanos(now + look), Relaxed);
            return;
        }
        // Nobody may have been let in, while more than the limit were under way.
        let in_flight = self.peak.swap(0, Relaxed).max(under_way);
        let ended = u64::from(count) + self.stale.swap(0, Relaxed);
        let window = Window { at: now, calls, ended, in_flight, refused: self.refused.swap(false, Relaxed) };
        let next = gradient.judge(&window);
        calls.fill(Calls::default());
        self.obey(next, now);
    }
}

impl Calls {
    /// Adds a sum of [`packed`] times.
    fn add(&mut self, sum: u64) {
        let count = (sum >> COUNT) as u32;
        if count > 0 {
            let took = self.took * f64::from(self.count) + (sum & ((1 << COUNT) - 1)) as f64 / FRACTION;
            self.count += count;
            self.took = took / f64::from(self.count);
        }
    }
}

/// Where the count begins in a word of [`packed`] times: room for 16 million calls a window, of which each adds at most
/// 2^14 below.
const COUNT: u32 = 40;
/// Parts of an octave.
const FRACTION: f64 = 256.0;

/// One call, and the logarithm (base 2) of its nanoseconds in 256ths: words of these can be added. Between powers of two
/// it is a straight line (Mitchell's approximation), at most a sixteenth too low.
fn packed(took: Duration) -> u64 {
    let nanos = nanos(took).max(1);
    let power = nanos.ilog2();
    let fraction = (nanos << (63 - power) << 1) >> 56;
    1 << COUNT | u64::from(power) << 8 | fraction
}

fn shown(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
