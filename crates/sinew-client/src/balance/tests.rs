//! Each policy's promise: whom it spreads calls over, how evenly, and what a change moves.

mod spread;
mod trouble;

use super::{Hint, Picker, Policy, policy};
use crate::{endpoint::Endpoint, snapshot::Ready};
use sinew_core::service_config::{Balancing, ServiceConfig};
use std::sync::Arc;
use tokio::time::Instant;

/// The policy that a service config's JSON names.
fn policy_of(json: &str) -> Box<dyn Policy> {
    let config = ServiceConfig::parse("test", &format!(r#"{{"loadBalancingConfig":[{json}]}}"#)).expect(json);
    let balancing: Option<&Balancing> = config.load_balancing_config.first();
    policy(balancing)
}

/// An endpoint of this id and weight.
fn endpoint(id: impl Into<Arc<str>>, weight: u32) -> Arc<Ready> {
    let id = id.into();
    Arc::new(Ready { endpoint: Arc::new(Endpoint::of_test(&id)), id, weight, connections: Vec::new() })
}

/// `shop-0`, `shop-1` …, of these weights.
fn endpoints(weights: impl IntoIterator<Item = u32>) -> Vec<Arc<Ready>> {
    (0..).zip(weights).map(|(n, weight)| endpoint(format!("shop-{n}"), weight)).collect()
}

/// SplitMix64: the same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn hint(random: u64, key: u64, now: Instant) -> Hint {
    Hint { random, key, now }
}

/// How many of so many calls, each with a key of its own, each endpoint gets.
fn shares(picker: &dyn Picker, ready: &[Arc<Ready>], calls: u32) -> Vec<u64> {
    let (mut random, now) = (Random(7), Instant::now());
    let mut counts = vec![0; ready.len()];
    for _ in 0..calls {
        let picked = picker.pick(ready, hint(random.next(), random.next(), now));
        counts[picked] += 1;
    }
    counts
}
