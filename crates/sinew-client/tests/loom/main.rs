//! The client's atomics in every order that threads may run in.
//!
//! loom runs a model again and again, once for each order of its threads' steps (and each value that a load may see), and fails
//! at the first that breaks a promise. The modules are the client's own files, compiled with loom's atomics.

#![allow(clippy::expect_used, dead_code, reason = "made for the client; a test that cannot go on ends")]

mod config {
    pub(crate) use sinew_client::{BreakerConfig, RetryConfig};
}
mod sync {
    pub(crate) use loom::sync::atomic;
}
#[path = "../../src/retry/budget.rs"]
mod budget;
#[path = "../../src/latency.rs"]
mod latency;
#[path = "../../src/places.rs"]
mod places;
#[path = "../../src/breaker/window.rs"]
mod window;
#[path = "../../src/breaker/word.rs"]
mod word;

use budget::Budget;
use config::{BreakerConfig, RetryConfig};
use latency::{DECAY, Latency};
use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};
use places::Places;
use sinew_core::classify::Verdict::{Failure, Success};
use std::time::Duration;
use tokio::time::Instant;
use window::Window;
use word::{Change, Phase, Word};

const UNTIL_MS: u64 = 1_000;

/// Opens after two failures, lets one probe through, closes after one success.
fn config() -> BreakerConfig {
    BreakerConfig { failures: 2, probes: 1, successes: 1, ..BreakerConfig::default() }
}

/// What each of two threads says.
fn both<T: 'static>(one: impl FnOnce() -> T + 'static, other: impl FnOnce() -> T + 'static) -> (T, T) {
    let (one, other) = (thread::spawn(one), thread::spawn(other));
    (one.join().expect("it ends"), other.join().expect("it ends"))
}

#[test]
fn two_failures_at_once_open_a_breaker_once() {
    loom::model(|| {
        let word = Arc::new(Word::default());
        // Both leaves are taken before either call ends, so both failures count.
        let permits = [word.acquire(|| 0, 1).expect("closed"), word.acquire(|| 0, 1).expect("closed")];
        let settle = |word: Arc<Word>, permit| move || word.settle(permit, Failure, UNTIL_MS, false, &config());
        let changes = both(settle(word.clone(), permits[0]), settle(word.clone(), permits[1]));
        assert!(matches!(changes, (Change::Opened, Change::None) | (Change::None, Change::Opened)), "{changes:?}");
        assert_eq!(word.phase(), Phase::Open { until_ms: UNTIL_MS });
    });
}

#[test]
fn of_two_that_ask_at_the_end_of_the_open_time_one_probes() {
    loom::model(|| {
        let word = Arc::new(Word::default());
        let permit = word.acquire(|| 0, 1).expect("closed");
        word.settle(permit, Failure, UNTIL_MS, true, &config());
        let ask = |word: Arc<Word>| move || word.acquire(|| UNTIL_MS, 1).is_ok();
        let leave = both(ask(word.clone()), ask(word.clone()));
        assert!(leave.0 != leave.1, "one probes, not {leave:?}");
    });
}

#[test]
fn a_probe_that_ends_beside_a_new_connection_leaves_a_way_in() {
    loom::model(|| {
        let word = Arc::new(Word::default());
        let permit = word.acquire(|| 0, 1).expect("closed");
        word.settle(permit, Failure, UNTIL_MS, true, &config());
        let probe = word.acquire(|| UNTIL_MS, 1).expect("its time has come");
        let (end, connect) = (word.clone(), word.clone());
        both(
            move || {
                end.settle(probe, Failure, 2 * UNTIL_MS, false, &config());
            },
            move || connect.half_open(),
        );
        // Open again, or half open without a probe under way: in neither case is it shut for ever.
        let probe = word.acquire(|| 2 * UNTIL_MS, 1).expect("a way in");
        assert_eq!(word.settle(probe, Success, 0, false, &config()), Change::Closed);
        assert_eq!(word.phase(), Phase::Closed { failures: 0 });
    });
}

#[test]
fn a_window_loses_no_call() {
    loom::model(|| {
        let window = Arc::new(Window::new(Duration::from_millis(100)));
        window.count(0, true);
        // Both are of the round after, so that one of them begins the bucket anew.
        let count = |window: Arc<Window>, failed| move || window.count(100, failed);
        both(count(window.clone(), true), count(window.clone(), false));
        assert_eq!(window.calls(100), (2, 1));
    });
}

#[test]
fn two_calls_never_spend_the_same_token() {
    loom::model(|| {
        let now = Instant::now();
        let config = RetryConfig { budget_min_per_second: 1, budget_ratio: 0.0, ..RetryConfig::default() };
        let budget = Arc::new(Budget::new(&config, now));
        let spend = |budget: Arc<Budget>| move || budget.withdraw(now);
        let spent = both(spend(budget.clone()), spend(budget.clone()));
        assert!(spent.0 != spent.1, "there is one token, and {spent:?}");
    });
}

#[test]
fn the_minimum_of_a_second_is_paid_in_once() {
    loom::model(|| {
        let zero = Instant::now();
        let config = RetryConfig { budget_min_per_second: 1, budget_ratio: 0.0, ..RetryConfig::default() };
        let budget = Arc::new(Budget::new(&config, zero));
        assert!(budget.withdraw(zero), "the first second's");
        let later = zero + Duration::from_secs(1);
        let spend = |budget: Arc<Budget>| move || budget.withdraw(later);
        let spent = both(spend(budget.clone()), spend(budget.clone()));
        assert!(!(spent.0 && spent.1), "both took the one token of a second");
        assert!(spent.0 || spent.1 || budget.withdraw(later), "nobody has it, and nobody can");
    });
}

// === latency ===

const MS: Duration = Duration::from_millis(1);

/// A call that is over.
fn answered(latency: &Latency, took: Duration, now: Instant) {
    latency.began(now - took);
    latency.answered(now - took, now);
}

#[test]
fn of_two_calls_that_end_at_once_the_longer_is_remembered() {
    let zero = Instant::now();
    let now = zero + 100 * MS;
    loom::model(move || {
        let latency = Arc::new(Latency::new(DECAY, zero));
        let end = |latency: Arc<Latency>, took| move || answered(&latency, took, now);
        both(end(latency.clone(), MS), end(latency.clone(), 20 * MS));
        let cost = latency.cost(now).expect("known");
        assert!((19_990.0..=20_000.0).contains(&cost), "{cost} µs");
        assert!(latency.load(now) <= cost, "nobody waits any more");
    });
}

#[test]
fn a_call_of_an_old_connection_tells_nothing_of_a_new_one() {
    let zero = Instant::now();
    let (began, now) = (zero + 50 * MS, zero + 100 * MS);
    for known in [false, true] {
        loom::model(move || {
            let latency = Arc::new(Latency::new(DECAY, zero));
            if known {
                answered(&latency, MS, began);
            }
            latency.began(began);
            let (end, connect) = (latency.clone(), latency.clone());
            both(move || end.answered(began, now), move || connect.forget(now));
            assert_eq!(latency.cost(now), None, "known before: {known}");
        });
    }
}

#[test]
fn a_first_call_beside_the_median_is_not_lost() {
    let zero = Instant::now();
    let now = zero + 100 * MS;
    loom::model(move || {
        let latency = Arc::new(Latency::new(DECAY, zero));
        let (end, begin) = (latency.clone(), latency.clone());
        both(move || answered(&end, 20 * MS, now), move || begin.begin(1.0, now));
        assert_eq!(latency.cost(now), Some(20_000.0));
    });
}

#[test]
fn an_endpoint_that_nobody_called_for_long_is_not_taken_for_silent() {
    let zero = Instant::now();
    let now = zero + Duration::from_secs(3_600);
    loom::model(move || {
        let latency = Arc::new(Latency::new(DECAY, zero));
        let (call, look) = (latency.clone(), latency.clone());
        let ((), load) = {
            let (call, look) = (thread::spawn(move || call.began(now)), thread::spawn(move || look.load(now)));
            (call.join().expect("it ends"), look.join().expect("it ends"))
        };
        assert!(load <= 2.0, "one waits, since now: {load}");
    });
}

// === places ===

#[test]
fn the_last_place_is_taken_by_one_and_never_lost() {
    loom::model(|| {
        let (places, inside) = (Arc::new(Places::default()), Arc::new(AtomicUsize::new(0)));
        let visit = |places: Arc<Places>, inside: Arc<AtomicUsize>| {
            move || {
                let taken = places.take(1);
                if taken {
                    assert_eq!(inside.fetch_add(1, Relaxed), 0, "two have the only place");
                    inside.fetch_sub(1, Relaxed);
                    places.give_back();
                }
                taken
            }
        };
        let taken = both(visit(places.clone(), inside.clone()), visit(places.clone(), inside.clone()));
        assert!(taken.0 || taken.1, "nobody had it");
        assert_eq!(places.taken(), 0);
        assert!(places.take(1), "it was lost");
    });
}
