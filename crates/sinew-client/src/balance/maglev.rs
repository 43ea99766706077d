//! The same endpoint for the same key, in equal shares.
//!
//! A table of prime size, in which endpoints take turns to claim the next free place of their own permutation (Eisenbud
//! et al., NSDI 2016). Shares are as even as the table is large, a pick is one look; when an endpoint comes or goes, a few
//! percent of the other endpoints' keys move too, which a ring would not do.

use super::policy::{Hint, Picker, Policy};
use crate::snapshot::Ready;
use sinew_core::service_config::{HashKey, MaglevConfig};
use std::sync::Arc;
use xxhash_rust::xxh64::xxh64;

/// Envoy's policy of this name.
#[derive(Debug)]
pub(crate) struct Maglev {
    key: Option<HashKey>,
    size: u64,
}

#[derive(Debug)]
struct Table(Vec<u32>);

impl Maglev {
    pub(crate) fn new(config: &MaglevConfig) -> Self {
        Self { key: config.key(), size: config.table_size.into() }
    }
}

/// One endpoint's wishes: places `offset`, `offset + skip`, … of the table.
struct Wishes {
    next: u64,
    skip: u64,
    weight: f64,
    /// How much of a place it has been given so far, in units of the heaviest.
    due: f64,
}

impl Policy for Maglev {
    fn picker(&self, ready: &[Arc<Ready>]) -> Arc<dyn Picker> {
        const NOBODY: u32 = u32::MAX;
        let heaviest = ready.iter().map(|ready| ready.weight).max().unwrap_or(1).max(1);
        let wishes = |ready: &Arc<Ready>| {
            let id = ready.id.as_bytes();
            let (next, skip) = (xxh64(id, 0) % self.size, xxh64(id, 1) % (self.size - 1) + 1);
            Wishes { next, skip, weight: f64::from(ready.weight) / f64::from(heaviest), due: 0.0 }
        };
        let mut wishes: Vec<_> = ready.iter().map(wishes).collect();
        let mut table = vec![NOBODY; self.size as usize];
        let mut free = if wishes.is_empty() { 0 } else { table.len() };
        while free > 0 {
            for (at, wish) in (0u32..).zip(&mut wishes) {
                if free == 0 {
                    break;
                }
                // The heaviest has a turn in each round, the others as often as they weigh.
                wish.due += wish.weight;
                if wish.due < 1.0 {
                    continue;
                }
                wish.due -= 1.0;
                // Prime size and a skip below it: its wishes come to every place, so it finds a free one.
                loop {
                    let place = table.get_mut(wish.next as usize);
                    wish.next = (wish.next + wish.skip) % self.size;
                    if let Some(place) = place.filter(|place| **place == NOBODY) {
                        *place = at;
                        free -= 1;
                        break;
                    }
                }
            }
        }
        Arc::new(Table(table))
    }

    fn key(&self) -> Option<&HashKey> {
        self.key.as_ref()
    }
}

impl Picker for Table {
    fn pick(&self, _: &[Arc<Ready>], hint: Hint) -> usize {
        let place = hint.key % self.0.len().max(1) as u64;
        self.0.get(place as usize).map_or(0, |at| *at as usize)
    }
}
