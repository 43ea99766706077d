//! Bounds on how much of the traffic may be repetition.
//!
//! Retries help when one server of many fails and hurt when all do: each layer of callers that tries three times
//! multiplies the load by three. Two bounds, both per destination: a budget in proportion to calls (as Finagle and
//! linkerd have it) and gRPC's own throttle (gRFC A6), where the service config asks for it.

use crate::config::RetryConfig;
use sinew_core::service_config::RetryThrottling;
use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};
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
    /// Milliseconds after `zero` up to which the minimum was paid in.
    paid_ms: AtomicU64,
}

impl Budget {
    pub(crate) fn new(config: &RetryConfig, now: Instant) -> Self {
        let per_second = i64::from(config.budget_min_per_second) * ONE;
        let most = (per_second * BURST_SECONDS).max(BURST_LEAST * ONE);
        let per_call = (config.budget_ratio * ONE as f64) as i64;
        Self { tokens: AtomicI64::new(per_second), most, per_call, per_second, zero: now, paid_ms: AtomicU64::new(0) }
    }

    /// A call was made.
    pub(crate) fn deposit(&self) {
        // A full budget, the usual case, is only read.
        if self.tokens.load(Relaxed) < self.most {
            self.tokens.fetch_add(self.per_call, Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RetryConfig;

    #[tokio::test(start_paused = true)]
    async fn a_destination_that_always_fails_gets_a_fifth_more_load_and_ten_a_second() {
        let budget = Budget::new(&RetryConfig::default(), Instant::now());
        while budget.withdraw(Instant::now()) {}
        let spent = (0..1_000).filter(|_| {
            budget.deposit();
            budget.withdraw(Instant::now())
        });
        assert_eq!(spent.count(), 200);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((0..1_000).filter(|_| budget.withdraw(Instant::now())).count(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_night_saves_up_no_storm() {
        let budget = Budget::new(&RetryConfig::default(), Instant::now());
        tokio::time::advance(Duration::from_secs(3600)).await;
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!((0..1_000).filter(|_| budget.withdraw(Instant::now())).count(), 100);
    }

    #[test]
    fn the_throttle_pauses_below_half_and_recovers_with_successes() {
        let throttle = Throttle::new(RetryThrottling { max_tokens: 10, token_ratio: 0.5 });
        let allowed = (0..10).filter(|_| throttle.failed()).count();
        assert_eq!(allowed, 4, "at 5 of 10 tokens retries stop");
        (0..14).for_each(|_| throttle.succeeded());
        assert!(throttle.failed(), "7 tokens, 6 after this failure");
        assert!(!throttle.failed());
    }

    #[test]
    fn waits_grow_to_the_limit_and_jitter_by_a_fifth() {
        let policy = sinew_core::service_config::RetryPolicy {
            max_attempts: 5,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(300),
            backoff_multiplier: 2.0,
            retryable_status_codes: vec![],
        };
        for (n, base) in [(1, 100.0), (2, 200.0), (3, 300.0), (4, 300.0)] {
            assert_eq!(wait(&policy, n, 0.0), Duration::from_secs_f64(base * 0.8 / 1e3));
            assert_eq!(wait(&policy, n, 0.5), Duration::from_secs_f64(base / 1e3));
        }
    }
}
