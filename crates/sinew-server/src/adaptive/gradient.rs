//! How many calls under way are enough: the rule, told window by window what calls took.
//!
//! By Little's law a server that is full answers no faster with more calls under way, only later. So the limit follows the
//! *inflation*: what calls took over what they take when none waits for another. It is a geometric mean over the calls of
//! a window, each against its own method's *baseline*, so that a change of what is called is not taken for load.
//!
//! ```text
//!   inflation ≤ tolerance   the limit grows by its square root, if it was needed
//!   inflation > tolerance   limit := in flight × tolerance / inflation (at least a half) + √in flight
//! ```
//!
//! That is the rule of Envoy's gradient controller. Its weak side, and that of Netflix's Gradient2, is what it takes for
//! slow: there, baselines are measured by letting almost nobody in, or are an average that load itself raises. Here there
//! is no limit until an experiment has shown that one helps:
//!
//! ```text
//!          slow for a while        known             as many get done
//!   Free ───────────────────► Hold ───────► Cut ─────────────────────► Limited ◄──► Probe
//!    ▲                                       │ fewer do                  │
//!    └───────────────────────────────────────┴───────── calm ◄───────────┘
//! ```
//!
//! - **Hold** lets no more calls in than there are, and **Cut** three tenths fewer. Where calls queue as many are done as
//!   before. If fewer are, in proportion, calls are slow by nature (a dependency is, or work has changed): what they take
//!   becomes the baseline, and the limit is lifted. (By Little's law that is to ask whether latency fell, without a guess at
//!   calls that have not ended yet.)
//! - **Probe** lowers a limit in use so far that nobody waits, now and then and for one window, so that a baseline which was
//!   measured under load comes down. (Envoy: the minRTT window.)
//!
//! A call whose caller gave up would have taken longer, so it counts as slow once it has taken longer than others do. What is
//! done is what succeeds. Where hardly anything does a window does not wait for successes: there is nothing to lose.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter>,
//! <https://netflixtechblog.medium.com/performance-under-load-3e6fa9a60581>
//!
//! Pure: time is an argument. Inflation is counted in octaves (its logarithm to base 2).

use super::{
    AdaptiveConcurrency,
    window::{Calls, Next, Window, is_futile},
};
use std::time::Duration;

/// Calls that a window must have for a judgement: the mean of as many exponential times is off by a fifth.
const CALLS: u32 = 100;
/// The same where windows are compared: counts of so many calls are off by a twentieth or two.
const CALLS_TO_COMPARE: u32 = 400;
/// Windows in a row with inflation before an experiment, ...
const WINDOWS: u8 = 2;
/// ... and how long it lasts: a burst is no overload.
const WHILE: Duration = Duration::from_millis(400);
/// What the first cut leaves. The server may be a healthy one.
const FIRST_CUT: f64 = 0.7;
/// What a cut leaves at least once latency has followed the first, ...
const SECOND_CUT: f64 = 0.4;
/// ... and in each window of a limit that is in use.
const DEEPEST_CUT: f64 = 0.5;
/// What a probe leaves of the calls that are worked on.
const PROBE: f64 = 0.5;
/// Inflation beyond what the rule itself settles at before a limit that is there is doubted, in octaves.
const DOUBT: f64 = 0.5;
/// By how much a probe's calls must be quicker than a baseline for it to be wrong, in octaves. The next probe comes soon then.
const FELL: f64 = 0.5;
/// Time to the first probe, and to the next one after baselines fell.
const SOON: Duration = Duration::from_secs(1);
/// A probe may take this part of the time: where calls are few it takes long, and comes the more rarely.
const PROBE_SHARE: u32 = 50;
/// Time without need of the limit after which it is lifted.
const CALM: Duration = Duration::from_secs(10);
/// Windows over which a method's first baseline is a mean: in the very first only quick calls have ended.
const LEARNING: u8 = 10;
/// How fast baselines follow calls that got quicker, and slower.
const DOWN: Duration = Duration::from_secs(5);
const UP: Duration = Duration::from_secs(60);
/// Windows last for this many of what calls take, so that a change of the limit is seen in the next, ...
const CALLS_PER_WINDOW: f64 = 2.0;
/// ... and where windows are compared for more, so that slow calls are in them too.
const CALLS_PER_EXPERIMENT: f64 = 4.0;
/// The longest that a window is made to last.
const LONGEST: Duration = Duration::from_secs(10);

/// The longest that an experiment lasts, and a probe, which lets in fewer: too few calls end then to show anything.
const LONGEST_EXPERIMENT: Duration = Duration::from_secs(60);
const LONGEST_PROBE: Duration = Duration::from_secs(20);

/// The rule's memory.
#[derive(Debug)]
pub(super) struct Gradient {
    settings: AdaptiveConcurrency,
    /// The limit when there is none.
    most: f64,
    limit: f64,
    /// By method: what a call takes when none waits for another, as [`Calls::took`].
    baselines: Vec<Baseline>,
    /// End of the last window.
    last: Duration,
    phase: Phase,
    /// Windows in a row that were slow, and when the first ended.
    slow: u8,
    slow_since: Duration,
    next_probe: Duration,
    /// Since when the limit has not been needed.
    calm: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Baseline {
    took: f64,
    /// Windows that it was learned from, up to [`LEARNING`].
    windows: u8,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// No limit.
    Free,
    /// As many calls as there were, until their times are known. There may have been a limit before.
    Hold { limited: bool },
    /// Fewer.
    Cut { before: Steady },
    /// The limit follows latency.
    Limited,
    /// Very few.
    Probe { before: Steady, began: Duration, limit: f64 },
}

/// Calls under way, how long they took while there were as many, and how many were done in a second.
#[derive(Debug, Clone, Copy)]
struct Steady {
    in_flight: usize,
    inflation: f64,
    rate: f64,
}

impl Gradient {
    /// No limit below `most` until there is a reason for one.
    pub(super) fn new(settings: AdaptiveConcurrency, most: usize, methods: usize) -> Self {
        Self {
            settings,
            most: most as f64,
            limit: most as f64,
            baselines: vec![Baseline::default(); methods],
            last: Duration::ZERO,
            phase: Phase::Free,
            slow: 0,
            slow_since: Duration::ZERO,
            next_probe: Duration::ZERO,
            calm: None,
        }
    }

    pub(super) fn settings(&self) -> &AdaptiveConcurrency {
        &self.settings
    }

    /// Whether so many calls that succeeded, and that were given up, allow a judgement.
    pub(super) fn enough(&self, succeeded: u32, given_up: u32) -> bool {
        match self.phase {
            Phase::Free | Phase::Limited => succeeded + given_up >= CALLS,
            Phase::Hold { .. } | Phase::Cut { .. } | Phase::Probe { .. } => {
                succeeded >= CALLS_TO_COMPARE || given_up >= CALLS_TO_COMPARE && is_futile(succeeded, given_up)
            }
        }
    }

    /// Judges one window.
    pub(super) fn judge(&mut self, window: &Window<'_>) -> Next {
        let (inflation, took) = self.inflation(window);
        let elapsed = window.at.saturating_sub(self.last);
        self.last = window.at;
        let rate = window.ended as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let now = Steady { in_flight: window.in_flight, inflation, rate };
        let in_flight = window.in_flight.max(1) as f64;
        match self.phase {
            Phase::Free => self.free(now, window, elapsed),
            Phase::Hold { limited } => self.held(now, limited),
            Phase::Cut { before } => self.was_cut(before, now, window.at),
            Phase::Limited => self.limited(now, window, elapsed),
            Phase::Probe { before, began, limit } => self.probed(before, now, window, began, limit),
        }
        let fresh = matches!(self.phase, Phase::Cut { .. } | Phase::Probe { .. });
        let least = match self.phase {
            Phase::Free | Phase::Limited => took.exp2() * CALLS_PER_WINDOW,
            Phase::Hold { .. } | Phase::Probe { .. } => took.exp2() * CALLS_PER_EXPERIMENT,
            // If it is a queue that is cut.
            Phase::Cut { .. } => took.exp2() * CALLS_PER_EXPERIMENT * (self.limit / in_flight).min(1.0),
        };
        let length = Duration::from_nanos(least as u64).max(self.settings.window).min(LONGEST);
        let patience = match self.phase {
            Phase::Free | Phase::Limited => None,
            Phase::Hold { .. } | Phase::Cut { .. } => Some(LONGEST_EXPERIMENT),
            Phase::Probe { .. } => Some(LONGEST_PROBE),
        };
        Next { limit: self.limit as usize, window: length, fresh, patience }
    }

    /// Ends an experiment without a verdict: nothing was shown.
    pub(super) fn abandon(&mut self, at: Duration) -> Next {
        match self.phase {
            Phase::Free | Phase::Limited => {}
            Phase::Hold { limited: true } => self.phase = Phase::Limited,
            Phase::Hold { limited: false } | Phase::Cut { .. } => self.lift(),
            Phase::Probe { limit, .. } => {
                (self.limit, self.phase) = (limit, Phase::Limited);
                self.next_probe = at + self.settings.probe_interval.max(LONGEST_PROBE * PROBE_SHARE);
            }
        }
        Next { limit: self.limit as usize, window: self.settings.window, fresh: false, patience: None }
    }

    /// Octaves by which calls took longer than their methods' do at rest, and what they took.
    fn inflation(&mut self, window: &Window<'_>) -> (f64, f64) {
        let mut calls = Vec::with_capacity(2 * self.baselines.len());
        for (method, succeeded) in window.calls.iter().enumerate().filter(|(_, calls)| calls.count > 0) {
            if self.baselines[method].windows == 0 {
                self.baselines[method] = Baseline { took: succeeded.took, windows: 1 };
            }
            calls.push((method, succeeded));
        }
        // A call that was given up would have taken longer: that says something once it has taken longer than others do.
        let telling = |(method, calls): &(usize, &Calls)| {
            let baseline = self.baselines[*method];
            calls.count > 0 && baseline.windows > 0 && calls.took > baseline.took
        };
        calls.extend(window.given_up.iter().enumerate().filter(telling));
        let (mut count, mut inflation, mut took) = (0.0, 0.0, 0.0);
        for (method, calls) in calls {
            let weight = f64::from(calls.count);
            inflation += weight * (calls.took - self.baselines[method].took);
            took += weight * calls.took;
            count += weight;
        }
        if count > 0.0 { (inflation / count, took / count) } else { (0.0, 0.0) }
    }

    /// The inflation that may be, in octaves.
    fn tolerance(&self) -> f64 {
        self.settings.tolerance.log2()
    }

    /// `limit`, which may be no lower than the settings say and not above the limit of this moment.
    fn lower(&mut self, limit: f64) {
        self.limit = limit.max(self.settings.min_limit as f64).min(self.limit);
    }

    /// Begins an experiment when calls have been slow for long enough.
    fn doubt(&mut self, now: Steady, slow: bool, at: Duration) {
        self.slow = if slow { self.slow.saturating_add(1) } else { 0 };
        if self.slow <= 1 {
            self.slow_since = at;
        }
        let for_a_while = self.slow >= WINDOWS && at.saturating_sub(self.slow_since) >= WHILE;
        // Where so few are under way the cut that would tell is not allowed, and hardly needed.
        if for_a_while && now.in_flight as f64 * FIRST_CUT >= self.settings.min_limit as f64 {
            self.slow = 0;
            self.lower(now.in_flight as f64);
            self.phase = Phase::Hold { limited: matches!(self.phase, Phase::Limited) };
        }
    }

    // === Free ===

    fn free(&mut self, now: Steady, window: &Window<'_>, elapsed: Duration) {
        let slow = now.inflation > self.tolerance();
        self.drift(window.calls, elapsed, |baseline| if slow { baseline.windows < LEARNING } else { true });
        self.doubt(now, slow, window.at);
    }

    /// Baselines follow what calls take, upwards those that may.
    fn drift(&mut self, calls: &[Calls], elapsed: Duration, up: impl Fn(&Baseline) -> bool) {
        for (baseline, calls) in self.baselines.iter_mut().zip(calls).filter(|(_, calls)| calls.count > 0) {
            let over = match calls.took < baseline.took {
                true => DOWN,
                false if up(baseline) => UP,
                false => continue,
            };
            let mut weight = 1.0 - (-elapsed.as_secs_f64() / over.as_secs_f64()).exp();
            if baseline.windows < LEARNING {
                baseline.windows += 1;
                weight = weight.max(1.0 / f64::from(baseline.windows));
            }
            baseline.took += (calls.took - baseline.took) * weight;
        }
    }

    // === Hold, Cut ===

    fn held(&mut self, now: Steady, limited: bool) {
        if now.inflation <= self.tolerance() {
            if limited {
                self.phase = Phase::Limited;
            } else {
                // Nothing was shown.
                self.lift();
            }
            return;
        }
        self.lower(now.in_flight as f64 * FIRST_CUT);
        self.phase = Phase::Cut { before: now };
    }

    fn was_cut(&mut self, before: Steady, now: Steady, at: Duration) {
        if !now.queued(before, 1.0) {
            self.adopt(now.inflation.max(before.inflation));
            self.lift();
            return;
        }
        let gradient = self.gradient(now.inflation).max(SECOND_CUT);
        if gradient > DEEPEST_CUT || self.limit <= self.settings.min_limit as f64 {
            self.phase = Phase::Limited;
            self.next_probe = at + SOON;
        } else {
            self.lower(now.in_flight as f64 * gradient);
            self.phase = Phase::Cut { before: now };
        }
    }

    /// What calls take now is what they take.
    fn adopt(&mut self, inflation: f64) {
        self.baselines.iter_mut().for_each(|baseline| baseline.took += inflation);
    }

    fn lift(&mut self) {
        self.limit = self.most;
        self.phase = Phase::Free;
        (self.slow, self.calm) = (0, None);
    }

    // === Limited ===

    fn gradient(&self, inflation: f64) -> f64 {
        (self.tolerance() - inflation).exp2().min(1.0)
    }

    fn limited(&mut self, now: Steady, window: &Window<'_>, elapsed: Duration) {
        let in_flight = now.in_flight as f64;
        if now.inflation <= self.tolerance() {
            // Upwards they do not follow: under the limit there is a queue, by intention, which must not become the measure.
            self.drift(window.calls, elapsed, |_| false);
            if window.refused || in_flight >= self.limit / 2.0 {
                self.calm = None;
                self.limit = (self.limit + self.limit.sqrt()).min(self.most);
            } else if window.at.saturating_sub(*self.calm.get_or_insert(window.at)) >= CALM {
                self.lift();
                return;
            }
        } else {
            self.calm = None;
            // Calls of a low class are refused when a share of the limit is in use: all of it is, to them.
            let in_use = if window.refused { self.limit } else { self.limit.min(in_flight) };
            self.lower(in_use * self.gradient(now.inflation).max(DEEPEST_CUT) + in_use.sqrt());
        }
        // Where gradient and headroom balance each other inflation is above the tolerance by this much.
        let balance = -(1.0 - 1.0 / self.limit.max(4.0).sqrt()).log2();
        self.doubt(now, now.inflation > self.tolerance() + balance + DOUBT, window.at);
        if matches!(self.phase, Phase::Limited) && window.at >= self.next_probe && window.in_flight > 1 {
            self.phase = Phase::Probe { before: now, began: window.at, limit: self.limit };
            // Below the least limit, too: it is only for a moment.
            self.limit = (self.limit.min(in_flight) / self.settings.tolerance * PROBE).max(1.0);
        }
    }

    // === Probe ===

    fn probed(&mut self, before: Steady, now: Steady, window: &Window<'_>, began: Duration, limit: f64) {
        self.limit = limit;
        self.phase = Phase::Limited;
        if now.inflation > self.tolerance() && !now.queued(before, PROBE) {
            self.adopt(now.inflation);
            self.lift();
            return;
        }
        for (baseline, calls) in self.baselines.iter_mut().zip(window.calls).filter(|(_, calls)| calls.count > 0) {
            // By less, it may be for the slowest calls, which have not ended yet.
            if calls.took < baseline.took - FELL {
                baseline.took = calls.took;
            }
        }
        let pause = match now.inflation < -FELL {
            true => SOON,
            false => self.settings.probe_interval.max(window.at.saturating_sub(began) * PROBE_SHARE),
        };
        self.next_probe = window.at + pause;
    }
}

impl Steady {
    /// Whether there was a queue before: of it `share` of the calls are done now, without one as many fewer as are under way.
    /// In between, in the middle (geometric) of the two.
    fn queued(&self, before: Self, share: f64) -> bool {
        let fewer = self.in_flight as f64 / before.in_flight.max(1) as f64;
        self.rate >= before.rate * (share * fewer).sqrt()
    }
}
