//! The same endpoint for the same key, by consistent hashing.
//!
//! Each endpoint has points on a ring of hashes; a call goes to the first point at or after its key's hash (Karger et al.
//! 1997; gRFC A42, A76). When an endpoint comes or goes, only the keys at its own points move.

use super::{
    policy::{Hint, Picker, Policy},
    schedule::divisor,
};
use crate::snapshot::Ready;
use sinew_core::service_config::{HashKey, RingHashConfig};
use std::sync::Arc;
use xxhash_rust::xxh64::xxh64;

/// gRPC's `ring_hash_experimental`.
#[derive(Debug)]
pub(crate) struct RingHash {
    key: Option<HashKey>,
    smallest: u64,
    largest: u64,
}

/// Points in order, each with the position of its endpoint.
#[derive(Debug)]
struct Ring(Vec<(u64, u32)>);

impl RingHash {
    pub(crate) fn new(config: &RingHashConfig) -> Self {
        Self { key: config.key(), smallest: config.min_ring_size.into(), largest: config.max_ring_size.into() }
    }

    /// How many points an endpoint has for each unit of its weight. A power of two, so that a coming or leaving endpoint
    /// seldom changes the number of everybody's points, which would move keys of them all. The largest size wins over the
    /// smallest.
    fn points(&self, units: u64) -> u64 {
        let wanted = self.smallest.div_ceil(units.max(1)).next_power_of_two();
        let fits = (self.largest / units.max(1)).max(1);
        let largest = if fits.is_power_of_two() { fits } else { fits.next_power_of_two() / 2 };
        wanted.min(largest)
    }
}

impl Policy for RingHash {
    fn picker(&self, ready: &[Arc<Ready>]) -> Arc<dyn Picker> {
        let divisor = divisor(ready.iter().map(|ready| ready.weight));
        let all: u64 = ready.iter().map(|ready| u64::from(ready.weight / divisor)).sum();
        // Weights whose sum is more than the ring holds are rounded, none to 0.
        let largest = self.largest.max(ready.len() as u64);
        let units = |ready: &Arc<Ready>| {
            let units = u64::from(ready.weight / divisor);
            if all <= largest { units } else { (units * largest / all).max(1) }
        };
        let each = self.points(ready.iter().map(units).sum());
        let mut ring = Vec::new();
        for (at, ready) in (0u32..).zip(ready) {
            // The first hash of an endpoint by its id; each further one by the one before it.
            let mut point = xxh64(ready.id.as_bytes(), 0);
            for _ in 0..each * units(ready) {
                ring.push((point, at));
                point = xxh64(&point.to_le_bytes(), 1);
            }
        }
        ring.sort_unstable();
        Arc::new(Ring(ring))
    }

    fn key(&self) -> Option<&HashKey> {
        self.key.as_ref()
    }
}

impl Picker for Ring {
    fn pick(&self, _: &[Arc<Ready>], hint: Hint) -> usize {
        let at = self.0.partition_point(|(point, _)| *point < hint.key);
        self.0.get(at).or(self.0.first()).map_or(0, |(_, endpoint)| *endpoint as usize)
    }
}
