//! What a call costs to be counted.
//!
//! A call that is let in costs one addition and one comparison, its end a subtraction and, if it was a success of a unary
//! method, one addition to its method's sum. Whoever ends a call after a window's end closes the window, and nobody waits for
//! that. `tests/loom` runs the counters through every order of two threads' steps.

use super::{
    AdaptiveConcurrency,
    gradient::Gradient,
    window::{Calls, Next, Window, count},
};
use crate::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};
use std::{
    iter,
    sync::{Arc, TryLockError, atomic::AtomicI64},
    time::Duration,
};

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
    succeeded: Box<[Sum]>,
    given_up: Box<[Sum]>,
    rule: Mutex<Rule>,
}

#[derive(Debug)]
struct Rule {
    gradient: Gradient,
    /// The window's calls so far, where the last look found too few.
    succeeded: Box<[Calls]>,
    given_up: Box<[Calls]>,
}

/// Calls of one method: number and sum of the logarithms, [`packed`].
#[derive(Debug, Default)]
struct Sum(AtomicU64);

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
            succeeded: iter::repeat_with(Sum::default).take(methods).collect(),
            given_up: iter::repeat_with(Sum::default).take(methods).collect(),
            rule: Mutex::new(Rule {
                gradient: Gradient::new(settings, most, methods),
                succeeded: iter::repeat_n(Calls::default(), methods).collect(),
                given_up: iter::repeat_n(Calls::default(), methods).collect(),
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
        rule.forget();
        self.obey(rule.gradient.abandon(now), now);
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
        } else if let Some(sum) = self.succeeded.get(method) {
            sum.add(now.saturating_sub(began));
        }
        if nanos(now) >= self.window_end.load(Relaxed) {
            self.close(now, under_way);
        }
    }

    /// The caller of a call of this method has given up, or its time was up, and so many are under way without it.
    pub(crate) fn given_up(&self, method: usize, began: Duration, now: Duration, under_way: usize) {
        if nanos(began) >= self.fresh_from.load(Relaxed)
            && let Some(sum) = self.given_up.get(method)
        {
            sum.add(now.saturating_sub(began));
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
        let Rule { gradient, succeeded, given_up } = &mut *rule;
        for (calls, sums) in [(&mut *succeeded, &self.succeeded), (&mut *given_up, &self.given_up)] {
            calls.iter_mut().zip(sums).for_each(|(calls, sum)| calls.add(sum.take()));
        }
        if !gradient.enough(count(succeeded), count(given_up)) {
            // Ask again after a tenth, not at each call.
            let look = gradient.settings().window / 10;
            self.window_end.store(nanos(now + look), Relaxed);
            return;
        }
        // Nobody may have been let in, while more than the limit were under way.
        let in_flight = self.peak.swap(0, Relaxed).max(under_way);
        let ended = u64::from(count(succeeded)) + self.stale.swap(0, Relaxed);
        let refused = self.refused.swap(false, Relaxed);
        let window = Window { at: now, calls: succeeded, given_up, ended, in_flight, refused };
        let next = gradient.judge(&window);
        rule.forget();
        self.obey(next, now);
    }
}

#[cfg(test)]
impl Adaptive {
    /// Calls that no window has judged yet.
    pub(crate) fn counted(&self) -> u32 {
        let carried = self.rule().map_or(0, |rule| count(&rule.succeeded) + count(&rule.given_up));
        let sums = self.succeeded.iter().chain(&self.given_up);
        carried + sums.map(|sum| (sum.0.load(Relaxed) >> COUNT) as u32).sum::<u32>()
    }
}

impl Rule {
    /// The window is over.
    fn forget(&mut self) {
        self.succeeded.fill(Calls::default());
        self.given_up.fill(Calls::default());
    }
}

impl Sum {
    fn add(&self, took: Duration) {
        self.0.fetch_add(packed(took), Relaxed);
    }

    /// What there is, which begins anew.
    fn take(&self) -> u64 {
        self.0.swap(0, Relaxed)
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
pub(super) fn packed(took: Duration) -> u64 {
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
