//! Bounds on how much of the traffic may be repetition.
//!
//! Retries help when one server of many fails and hurt when all do: each layer of callers that tries three times
//! multiplies the load by three. Two bounds, both per destination: a budget in proportion to calls (as Finagle and
//! linkerd have it) and gRPC's own throttle (gRFC A6), where the service config asks for it.

use crate::{
    config::RetryConfig,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};
use sinew_core::service_config::RetryThrottling;
use std::time::Duration;
use tokio::time::Instant;

/// Everything is counted in thousandths, so that ratios are integers.
const ONE: i64 = 1_000;

/// The budget holds at most this many seconds of its minimum, or this many retries if that is more: enough for a burst
/// when one of a few servers dies, not enough for a storm saved up over a quiet night.
const BURST_SECONDS: i64 = 10;
const BURST_LEAST: i64 = 10;

/// Tokens that calls earn and retries spend.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: AtomicI64,
    most: i64,
    per_call: i64,
    per_second: i64,
    zero: Instant,
    /// What calls have earned since then: the minimum is for when that is less.
    earned: AtomicI64,
    /// Milliseconds after `zero` up to which the minimum was paid in.
    paid_ms: AtomicU64,
}

impl Budget {
    pub(crate) fn new(config: &RetryConfig, now: Instant) -> Self {
        let per_second = i64::from(config.budget_min_per_second) * ONE;
        let most = (per_second * BURST_SECONDS).max(BURST_LEAST * ONE);
        let per_call = (config.budget_ratio * ONE as f64) as i64;
        Self {
            tokens: AtomicI64::new(per_second),
            most,
            per_call,
            per_second,
            zero: now,
            earned: AtomicI64::new(0),
            paid_ms: AtomicU64::new(0),
        }
    }

    /// A call was made.
    pub(crate) fn deposit(&self) {
        // A full budget, the usual case, is only read.
        if self.tokens.load(Relaxed) < self.most {
            self.tokens.fetch_add(self.per_call, Relaxed);
            self.earned.fetch_add(self.per_call, Relaxed);
        }
    }

    /// Whether one more retry is allowed; takes it from the budget.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        self.pay_minimum(now);
        self.tokens.fetch_update(Relaxed, Relaxed, |tokens| (tokens >= ONE).then(|| tokens - ONE)).is_ok()
    }

    fn pay_minimum(&self, now: Instant) {
        let now_ms = u64::try_from(now.saturating_duration_since(self.zero).as_millis()).unwrap_or(u64::MAX);
        let paid_ms = self.paid_ms.load(Relaxed);
        let elapsed = now_ms.saturating_sub(paid_ms);
        // Whoever moves the mark pays, so that nobody pays twice.
        if elapsed > 0 && self.paid_ms.compare_exchange(paid_ms, now_ms, Relaxed, Relaxed).is_ok() {
            let due = i64::try_from(elapsed).unwrap_or(i64::MAX).saturating_mul(self.per_second) / 1_000;
            let due = (due - self.earned.swap(0, Relaxed)).max(0);
            let _ = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| Some(tokens.saturating_add(due).min(self.most)));
        }
    }
}

/// gRFC A6: retries pause while more than half of `max_tokens` has been lost to failures.
#[derive(Debug)]
pub(crate) struct Throttle {
    tokens: AtomicI64,
    most: i64,
    per_success: i64,
}

impl Throttle {
    pub(crate) fn new(config: RetryThrottling) -> Self {
        let most = i64::from(config.max_tokens) * ONE;
        Self { tokens: AtomicI64::new(most), most, per_success: (config.token_ratio * ONE as f64) as i64 }
    }

    pub(crate) fn succeeded(&self) {
        if self.tokens.load(Relaxed) < self.most {
            let _ = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| Some((tokens + self.per_success).min(self.most)));
        }
    }

    /// Whether there may be more than the first attempt.
    pub(crate) fn allows(&self) -> bool {
        self.tokens.load(Relaxed) > self.most / 2
    }

    /// Counts a failure that could be retried; true if it may be.
    pub(crate) fn failed(&self) -> bool {
        let before = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| Some((tokens - ONE).max(0)));
        before.unwrap_or_else(|same| same) - ONE > self.most / 2
    }
}

/// The wait before retry `n` (1 for the first): random up to `initial × multiplier^(n-1)`, at most `max` (gRFC A6 as
/// amended: ±20 % around it).
pub(crate) fn wait(policy: &sinew_core::service_config::RetryPolicy, n: u32, unit: f64) -> Duration {
    let growth = policy.backoff_multiplier.powi(i32::try_from(n.saturating_sub(1)).unwrap_or(i32::MAX));
    let base = (policy.initial_backoff.as_secs_f64() * growth).min(policy.max_backoff.as_secs_f64());
    Duration::try_from_secs_f64(base * (0.8 + 0.4 * unit)).unwrap_or(policy.max_backoff)
}
