//! Quotas kept in this process: the embedded default, right for one gateway.
//!
//! Memory is bounded. When a shard is full, keys that are idle are swept; where none is, strangers share one cell until
//! there is room. Whoever is already known goes on as before, so made-up keys cost only those who make them up.

use super::{Quota, RateError, RateKey, RateStore, Verdict};
use sinew_core::BoxFuture;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Enough that two cores seldom meet at one lock.
const SHARDS: usize = 16;

/// A sweep looks at every key of a shard: a flood of new keys must not make it happen at each call.
const SWEEP_AT_MOST: Duration = Duration::from_secs(1);

/// The in-process store.
#[derive(Debug)]
pub struct MemoryRates {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    epoch: Instant,
    keys_per_shard: usize,
}

#[derive(Debug, Default)]
struct Shard {
    cells: HashMap<RateKey, u64>,
    strangers: u64,
    swept: Option<Instant>,
}

impl MemoryRates {
    /// A store for at most about `keys` keys.
    pub fn new(keys: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            epoch: Instant::now(),
            keys_per_shard: (keys / SHARDS).max(1),
        }
    }

    fn take_now(&self, key: &RateKey, quota: Quota) -> Verdict {
        let at = Instant::now();
        let now = u64::try_from(at.duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        let index = (self.hasher.hash_one(key) % SHARDS as u64) as usize;
        let Some(shard) = self.shards.get(index) else { return quota.take(0, now).1 };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tat) = shard.cells.get_mut(key) {
            let (next, verdict) = quota.take(*tat, now);
            *tat = next;
            return verdict;
        }
        if shard.cells.len() >= self.keys_per_shard && shard.swept.is_none_or(|s| at.duration_since(s) >= SWEEP_AT_MOST) {
            shard.swept = Some(at);
            // A TAT in the past is the same as none.
            shard.cells.retain(|_, tat| *tat > now);
        }
        if shard.cells.len() >= self.keys_per_shard {
            let (next, verdict) = quota.take(shard.strangers, now);
            shard.strangers = next;
            return verdict;
        }
        let (tat, verdict) = quota.take(0, now);
        shard.cells.insert(key.clone(), tat);
        verdict
    }
}

impl RateStore for MemoryRates {
    fn take<'a>(&'a self, key: &'a RateKey, quota: Quota) -> BoxFuture<'a, Result<Verdict, RateError>> {
        Box::pin(std::future::ready(Ok(self.take_now(key, quota))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn subject(n: usize) -> RateKey {
        RateKey::Subject(format!("user-{n}").into())
    }

    #[tokio::test(start_paused = true)]
    async fn time_gives_calls_back() {
        let (store, quota) = (MemoryRates::new(1_000), Quota::new(10, 2).expect("valid"));
        let take = || store.take_now(&subject(1), quota).wait;
        assert_eq!((take(), take()), (None, None));
        assert_eq!(take(), Some(Duration::from_millis(100)));
        assert_eq!(store.take_now(&subject(2), quota).wait, None);
        advance(Duration::from_millis(99)).await;
        assert_eq!(take(), Some(Duration::from_millis(1)));
        advance(Duration::from_millis(1)).await;
        assert_eq!(take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_keys_stays_in_its_memory_and_hurts_nobody_known() {
        let (store, quota) = (MemoryRates::new(160), Quota::new(1, 5).expect("valid"));
        let known = subject(0);
        assert_eq!(store.take_now(&known, quota).wait, None);
        let refused = (1..10_000).filter(|n| store.take_now(&subject(*n), quota).wait.is_some()).count();
        let held: usize = store.shards.iter().map(|s| s.lock().expect("not poisoned").cells.len()).sum();
        assert!(held <= 160, "{held} keys held");
        assert!(refused > 9_000, "{refused} refused");
        assert_eq!(store.take_now(&known, quota).wait, None);
        // Idle keys make room.
        advance(Duration::from_secs(10)).await;
        assert_eq!(store.take_now(&subject(99_999), quota).remaining, 4);
    }
}
