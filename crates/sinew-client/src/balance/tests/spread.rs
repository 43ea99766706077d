//! Even shares, and shares by weight; keys that stay where they were.

use super::{Random, endpoint, endpoints, hint, policy_of, shares};
use crate::snapshot::Ready;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

const RING: &str = r#"{"ring_hash_experimental":{"requestHashHeader":"x-user"}}"#;
const MAGLEV: &str = r#"{"sinew_maglev":{"requestHashHeader":"x-user"}}"#;

/// Pearson's statistic of these counts against shares by weight.
fn chi_square(counts: &[u64], weights: &[u32]) -> f64 {
    let (all, sum) = (counts.iter().sum::<u64>() as f64, weights.iter().sum::<u32>() as f64);
    let of_one = |(count, weight): (&u64, &u32)| {
        let expected = all * f64::from(*weight) / sum;
        (*count as f64 - expected).powi(2) / expected
    };
    counts.iter().zip(weights).map(of_one).sum()
}

/// Exceeded by one fair spread over ten endpoints in a thousand.
const CHI_SQUARE_9: f64 = 27.88;

#[test]
fn spread_at_random_is_even() {
    for json in [
        r#"{"sinew_random":{}}"#,
        r#"{"least_request_experimental":{}}"#,
        r#"{"least_request_experimental":{"choiceCount":3}}"#,
        r#"{"sinew_peak_ewma":{}}"#,
    ] {
        let ready = endpoints([1; 10]);
        let counts = shares(&*policy_of(json).picker(&ready), &ready, 100_000);
        let chi = chi_square(&counts, &[1; 10]);
        assert!(chi < CHI_SQUARE_9, "{json}: {chi} {counts:?}");
    }
}

#[test]
fn turns_are_exactly_even() {
    for json in [r#"{"round_robin":{}}"#, r#"{"sinew_weighted_round_robin":{}}"#] {
        let ready = endpoints([5; 7]);
        let counts = shares(&*policy_of(json).picker(&ready), &ready, 7_000);
        assert_eq!(counts, [1_000; 7], "{json}");
    }
}

#[test]
fn weights_are_shares() {
    let weights = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    let ready = endpoints(weights);
    let exact = shares(&*policy_of(r#"{"sinew_weighted_round_robin":{}}"#).picker(&ready), &ready, 5_500);
    assert_eq!(exact, weights.map(|weight| u64::from(weight) * 100));
    let random = shares(&*policy_of(r#"{"sinew_random":{}}"#).picker(&ready), &ready, 100_000);
    assert!(chi_square(&random, &weights) < CHI_SQUARE_9, "{random:?}");
    // 512 points for each unit of weight.
    let fine = r#"{"ring_hash_experimental":{"requestHashHeader":"x-user","minRingSize":20000,"maxRingSize":65536}}"#;
    for (json, slack) in [(fine, 0.2), (MAGLEV, 0.05)] {
        let counts = shares(&*policy_of(json).picker(&ready), &ready, 550_000);
        for (count, weight) in counts.iter().zip(weights) {
            let share = *count as f64 / (f64::from(weight) * 10_000.0);
            assert!((share - 1.0).abs() < slack, "{json}: {weight} has {share} of its share: {counts:?}");
        }
    }
}

#[test]
fn three_share_a_ring_of_the_default_size_within_a_seventh() {
    let ready = endpoints([1; 3]);
    let counts = shares(&*policy_of(RING).picker(&ready), &ready, 300_000);
    assert!(counts.iter().all(|count| count.abs_diff(100_000) < 15_000), "{counts:?}");
}

#[test]
fn turns_go_on_where_they_were_when_an_endpoint_comes() {
    let policy = policy_of(r#"{"round_robin":{}}"#);
    let (three, four) = (endpoints([1; 3]), endpoints([1; 4]));
    let now = Instant::now();
    let picker = policy.picker(&three);
    for _ in 0..2 {
        picker.pick(&three, hint(0, 0, now));
    }
    assert_eq!(policy.picker(&four).pick(&four, hint(0, 0, now)), 2);
}

/// Which endpoint each of many keys goes to.
fn homes(json: &str, ready: &[Arc<Ready>]) -> BTreeMap<u64, String> {
    let picker = policy_of(json).picker(ready);
    let (mut random, now) = (Random(11), Instant::now());
    let home = |key| (key, ready[picker.pick(ready, hint(0, key, now))].id.to_string());
    (0..50_000).map(|_| home(random.next())).collect()
}

#[test]
fn the_same_key_goes_to_the_same_endpoint_of_a_ring_in_whatever_order_they_are() {
    let mut ready = endpoints([1; 9]);
    let before = homes(RING, &ready);
    ready.reverse();
    assert!(before == homes(RING, &ready));
}

/// What share of the keys has another home when one of ten is gone, and who of them need not have moved.
fn moved(json: &str) -> (f64, f64) {
    let mut ready = endpoints([1; 10]);
    let before = homes(json, &ready);
    let gone = ready.remove(3).id.to_string();
    let after = homes(json, &ready);
    let changed: Vec<_> = before.iter().filter(|(key, home)| after[key] != **home).collect();
    let needless = changed.iter().filter(|(_, home)| **home != gone).count();
    (changed.len() as f64 / before.len() as f64, needless as f64 / before.len() as f64)
}

#[test]
fn a_leaving_endpoint_moves_its_own_keys_alone_on_a_ring_and_few_others_in_a_table() {
    let (all, needless) = moved(RING);
    assert!(needless == 0.0 && all < 0.125, "ring: {all} moved, {needless} of them needlessly");
    let (all, needless) = moved(MAGLEV);
    assert!(needless < 0.03 && all < 0.13, "maglev: {all} moved, {needless} of them needlessly");
}

#[test]
fn a_coming_endpoint_takes_keys_to_itself_alone() {
    let mut ready = endpoints([1; 10]);
    let before = homes(RING, &ready);
    ready.push(endpoint("shop-new", 1));
    let after = homes(RING, &ready);
    let elsewhere = before.iter().filter(|(key, home)| after[key] != **home && after[key] != "shop-new").count();
    assert_eq!(elsewhere, 0);
}

#[test]
fn a_ring_keeps_to_its_size() {
    let picker = |json: &str, n| format!("{:?}", policy_of(json).picker(&endpoints(vec![1; n])));
    let points = |debug: String| debug.matches("), (").count() + 1;
    assert_eq!(points(picker(RING, 3)), 3 * 512, "the power of two by which 1,024 are reached");
    let small = r#"{"ring_hash_experimental":{"requestHashHeader":"x","minRingSize":100,"maxRingSize":100}}"#;
    assert_eq!(points(picker(small, 60)), 60);
    assert_eq!(points(picker(small, 300)), 300, "each has a point, whatever the limit");
    let uneven = format!("{:?}", policy_of(RING).picker(&endpoints([1, 65_535, 65_534])));
    assert!(points(uneven) <= 4_096 + 3);
}
