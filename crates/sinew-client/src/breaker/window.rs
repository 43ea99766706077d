//! How many of the latest calls there were, and how many of them failed.
//!
//! Ten buckets, each a tenth of the window: whoever counts into one that is of an earlier round begins it anew. A bucket is one
//! word, so there is no lock, and a count is lost only to a thread that slept for a whole bucket.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const BUCKETS: usize = 10;

/// The calls of the last so long, to a tenth of it.
#[derive(Debug)]
pub(crate) struct Window {
    buckets: [AtomicU64; BUCKETS],
    bucket_ms: u64,
}

/// The calls of a tenth of a window.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Which tenth, counted from the beginning.
    number: u32,
    calls: u16,
    failures: u16,
}

impl Window {
    pub(crate) fn new(length: Duration) -> Self {
        let bucket_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX) / BUCKETS as u64;
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), bucket_ms: bucket_ms.max(1) }
    }

    /// A call ended at this time, in milliseconds.
    pub(crate) fn count(&self, now_ms: u64, failed: bool) {
        let number = self.number(now_ms);
        let Some(bucket) = self.buckets.get(number as usize % BUCKETS) else { return };
        let _ = bucket.fetch_update(Relaxed, Relaxed, |word| {
            let bucket = Bucket::unpack(word);
            // One that is newer than the call is not touched by it.
            let bucket = if bucket.number < number { Bucket { number, ..Bucket::default() } } else { bucket };
            (bucket.number == number).then(|| bucket.with(failed).pack())
        });
    }

    /// Calls and failures of the window that ends at this time.
    pub(crate) fn calls(&self, now_ms: u64) -> (u64, u64) {
        let number = self.number(now_ms);
        let within = |bucket: &Bucket| bucket.number <= number && number - bucket.number < BUCKETS as u32;
        let buckets = self.buckets.iter().map(|word| Bucket::unpack(word.load(Relaxed))).filter(within);
        buckets.fold((0, 0), |(calls, failures), b| (calls + u64::from(b.calls), failures + u64::from(b.failures)))
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }

    fn number(&self, now_ms: u64) -> u32 {
        u32::try_from(now_ms / self.bucket_ms).unwrap_or(u32::MAX)
    }
}

impl Bucket {
    /// With another call. A full bucket is halved: what matters is the share.
    fn with(self, failed: bool) -> Self {
        let Self { number, mut calls, mut failures } = self;
        if calls == u16::MAX {
            (calls, failures) = (calls / 2, failures / 2);
        }
        Self { number, calls: calls + 1, failures: failures + u16::from(failed) }
    }

    fn pack(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.calls) << 16 | u64::from(self.failures)
    }

    fn unpack(word: u64) -> Self {
        Self { number: (word >> 32) as u32, calls: (word >> 16) as u16, failures: word as u16 }
    }
}
