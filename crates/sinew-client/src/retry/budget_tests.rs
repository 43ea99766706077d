//! The bounds on repetition.

use super::budget::{Budget, Throttle, wait};
use crate::config::RetryConfig;
use sinew_core::service_config::RetryThrottling;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_destination_that_always_fails_gets_a_tenth_more_load_or_ten_a_second() {
    let budget = Budget::new(&RetryConfig::default(), Instant::now());
    while budget.withdraw(Instant::now()) {}
    let spent = (0..1_000).filter(|_| {
        budget.deposit();
        budget.withdraw(Instant::now())
    });
    assert_eq!(spent.count(), 90);
    // What calls earn counts towards the minimum of their time, and only of that.
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!budget.withdraw(Instant::now()));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!((0..1_000).filter(|_| budget.withdraw(Instant::now())).count(), 20);
    // A thousand calls a second earn more than the minimum, which is not paid beside that.
    let mut spent = 0;
    for _ in 0..2_000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        budget.deposit();
        spent += usize::from(budget.withdraw(Instant::now()));
    }
    assert_eq!(spent, 180);
    // One a second earns next to nothing.
    let mut spent = 0;
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(1)).await;
        budget.deposit();
        spent += std::iter::repeat_with(|| budget.withdraw(Instant::now())).take_while(|paid| *paid).count();
    }
    assert_eq!(spent, 200);
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
