//! Randomness as a port: jitter, picks and ids follow one seed in simulations.

use rand::{RngCore, SeedableRng, rngs::SmallRng};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// A source of randomness, shared by what one mesh builds. Not for secrets.
pub trait Rng: fmt::Debug + Send + Sync {
    /// The next 64 bits.
    fn next_u64(&self) -> u64;

    /// A number in `0..bound`; 0 when `bound` is 0.
    fn below(&self, bound: u64) -> u64 {
        // Multiply-shift: its bias is below bound / 2^64.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `0.0..1.0`.
    fn unit(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A seeded generator behind a lock; for background work, not for the path of a call.
#[derive(Clone)]
pub struct SharedRng(Arc<Mutex<SmallRng>>);

impl SharedRng {
    /// The same seed gives the same numbers.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    /// Seeded by the operating system.
    pub fn from_os() -> Self {
        Self(Arc::new(Mutex::new(SmallRng::from_os_rng())))
    }
}

impl Rng for SharedRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}

impl fmt::Debug for SharedRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedRng")
    }
}
