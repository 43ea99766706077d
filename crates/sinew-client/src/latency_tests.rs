//! What each kind of news does to the cost, in made-up time.

use crate::latency::{DECAY, FAILURE, Latency, after, begin_at_the_median};
use std::time::Duration;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);

fn latency(zero: Instant) -> Latency {
    Latency::new(DECAY, zero)
}

/// A call of this length that ends now.
fn answered(latency: &Latency, took: Duration, now: Instant) {
    latency.began(now - took);
    latency.answered(now - took, now);
}

fn millis(latency: &Latency, now: Instant) -> f32 {
    latency.cost(now).expect("known") / 1_000.0
}

#[test]
fn it_jumps_up_and_falls_slowly() {
    let zero = Instant::now();
    let latency = latency(zero);
    let now = zero + 100 * MS;
    answered(&latency, MS, now);
    answered(&latency, 20 * MS, now + MS);
    assert!((millis(&latency, now + MS) - 20.0).abs() < 0.1);
    answered(&latency, MS, now + 2 * MS);
    assert!((19.9..20.0).contains(&millis(&latency, now + 2 * MS)), "one quick call says little");
    for n in 3..1_003 {
        answered(&latency, MS, now + n * MS);
    }
    let after_a_second = millis(&latency, now + 1_002 * MS);
    assert!((7.0..9.0).contains(&after_a_second), "1 + 19 / e: {after_a_second}");
}

#[test]
fn a_cost_that_nobody_renews_fades() {
    let zero = Instant::now();
    let latency = latency(zero);
    answered(&latency, 100 * MS, zero + 100 * MS);
    let later = millis(&latency, zero + 1_100 * MS);
    assert!((35.0..38.0).contains(&later), "100 / e: {later}");
}

#[test]
fn failures_and_calls_given_up_only_raise_it() {
    let zero = Instant::now();
    let latency = latency(zero);
    answered(&latency, 50 * MS, zero + 100 * MS);
    let now = zero + 101 * MS;
    latency.began(now);
    latency.given_up(now, now);
    assert!(millis(&latency, now) > 49.0, "a call given up at once is no quick one");
    latency.began(now);
    latency.given_up(now, now + 80 * MS);
    assert!((millis(&latency, now + 80 * MS) - 80.0).abs() < 0.1);
    latency.failed(now, now + 80 * MS);
    assert!((millis(&latency, now + 80 * MS) - 160.0).abs() < 0.2, "one failure doubles it");
    latency.failed(now, now + 80 * MS);
    assert_eq!(millis(&latency, now + 80 * MS), FAILURE.as_millis() as f32, "the next in a row is a second at least");
}

#[test]
fn it_goes_on_for_days() {
    let zero = Instant::now();
    let latency = latency(zero);
    for hours in [1, 30, 50, 77, 120] {
        let now = zero + Duration::from_secs(hours * 3_600);
        assert!(latency.cost(now).is_none_or(|cost| cost < 1.0), "what was seen hours ago has faded, at {hours} h");
        answered(&latency, 20 * MS, now);
        assert!((millis(&latency, now) - 20.0).abs() < 0.1, "at {hours} h");
    }
}

#[test]
fn silence_counts_while_somebody_waits() {
    let zero = Instant::now();
    let latency = latency(zero);
    let now = zero + 100 * MS;
    answered(&latency, MS, now);
    assert!(latency.load(now + 500 * MS) < 1_000.0, "nobody asked");
    latency.began(now + 500 * MS);
    assert!(latency.load(now + 501 * MS) < 4_000.0, "it has been silent for one millisecond");
    assert!(latency.load(now + 700 * MS) > 380_000.0, "200 ms, and one waits");
}

#[test]
fn whoever_is_new_begins_at_the_median_of_the_others() {
    let zero = Instant::now();
    let all: Vec<_> = (0..4).map(|_| latency(zero)).collect();
    let now = zero + 100 * MS;
    begin_at_the_median(all.iter(), all.iter(), now);
    assert!(all.iter().all(|l| l.cost(now).is_none()), "nothing is known of anybody");
    for (latency, took) in all.iter().zip([3, 1, 2]) {
        answered(latency, took * MS, now);
    }
    begin_at_the_median(all.iter(), all.iter(), now);
    assert!((millis(&all[3], now) - 2.0).abs() < 0.1);
}

#[test]
fn what_began_before_it_was_forgotten_does_not_count() {
    let zero = Instant::now();
    let latency = latency(zero);
    let frozen = zero + 100 * MS;
    latency.began(frozen);
    latency.forget(frozen + 700 * MS);
    latency.begin(500.0, frozen + 700 * MS);
    latency.answered(frozen, frozen + 701 * MS);
    assert!(millis(&latency, frozen + 701 * MS) < 0.6, "its answer is one of a time that is over");
    latency.failed(frozen, frozen + 701 * MS);
    latency.failed(frozen + 701 * MS, frozen + 702 * MS);
    assert!(millis(&latency, frozen + 702 * MS) < 1.1, "so is its failure: it is the first");
}

#[test]
fn ticks_wrap_and_never_run_backwards() {
    assert_eq!(after(u32::MAX - 1, 3), 5);
    assert_eq!(after(3, u32::MAX - 1), 0, "a thread whose time is older sees no time passed");
}
