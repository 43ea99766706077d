//! How calls are spread: a policy makes a picker for the endpoints that there are, and the picker chooses.
//!
//! A picker is made off the path of calls whenever the endpoints change, so it may build tables; a pick is O(1), however
//! many endpoints there are. Adding a policy is adding a file, and a line to [`policy`].

use super::{
    least_request::LeastRequest, maglev::Maglev, peak_ewma::PeakEwma, random::Random, ring_hash::RingHash, round_robin::RoundRobin,
    weighted_round_robin::WeightedRoundRobin,
};
use crate::{latency::DECAY, snapshot::Ready};
use sinew_core::service_config::{Balancing, HashKey};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A way to spread calls.
pub(crate) trait Policy: fmt::Debug + Send + Sync {
    /// A picker among these endpoints, in the order in which it will be asked.
    fn picker(&self, ready: &[Arc<Ready>]) -> Arc<dyn Picker>;

    /// How long it takes until what was seen of an endpoint's latency has faded to 1/e.
    fn decay(&self) -> Duration {
        DECAY
    }

    /// By what calls are kept together.
    fn key(&self) -> Option<&HashKey> {
        None
    }
}

/// Chooses among the endpoints that it was made for.
pub(crate) trait Picker: fmt::Debug + Send + Sync {
    /// The position of the endpoint to try first; `ready` is never empty.
    fn pick(&self, ready: &[Arc<Ready>], hint: Hint) -> usize;
}

/// What a pick may depend on besides the endpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hint {
    /// A fresh random number.
    pub(crate) random: u64,
    /// The hash of what keeps calls together; of a call without it the random number, as gRFC A76 has it.
    pub(crate) key: u64,
    pub(crate) now: Instant,
}

/// The policy that a service config asks for; peak EWMA where it asks for none, because an endpoint that is slow, fails
/// or says nothing then gets fewer calls without anybody having to notice it.
pub(crate) fn policy(balancing: Option<&Balancing>) -> Box<dyn Policy> {
    match balancing {
        None => Box::new(PeakEwma::default()),
        Some(Balancing::RoundRobin {}) => Box::new(RoundRobin::default()),
        Some(Balancing::LeastRequestExperimental { choice_count }) => Box::new(LeastRequest::new(*choice_count)),
        Some(Balancing::RingHashExperimental(config)) => Box::new(RingHash::new(config)),
        Some(Balancing::SinewPeakEwma { decay }) => Box::new(PeakEwma::new(*decay)),
        Some(Balancing::SinewWeightedRoundRobin {}) => Box::new(WeightedRoundRobin::default()),
        Some(Balancing::SinewRandom {}) => Box::new(Random),
        Some(Balancing::SinewMaglev(config)) => Box::new(Maglev::new(config)),
        // Policies are resolved to the innermost, which is neither.
        Some(outer @ (Balancing::OutlierDetectionExperimental(_) | Balancing::RandomSubsettingExperimental(_))) => {
            policy(outer.child())
        }
    }
}

/// Stretches one random number over several choices (SplitMix64's finalizer between them).
pub(super) struct Bits(pub(super) u64);

impl Bits {
    /// Below `bound`, which is above 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let drawn = ((u128::from(self.0) * u128::from(bound)) >> 64) as u64;
        self.0 = (self.0 ^ (self.0 >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
        drawn
    }

    /// Two different positions below `count`, which is above 1.
    pub(super) fn two(&mut self, count: usize) -> (usize, usize) {
        let count = count as u64;
        let first = self.below(count);
        let second = (first + 1 + self.below(count - 1)) % count;
        (first as usize, second as usize)
    }
}
