//! The least loaded of a few taken at random.
//!
//! Two random choices already bring the longest queue from O(log n) to O(log log n) (Mitzenmacher 2001), without every
//! client running to the one endpoint that looks idle; gRFC A48 is the same. Load is calls in flight, plus the one to
//! be placed, per unit of weight: a slow endpoint keeps its calls longer and so gets fewer.

use super::policy::{Bits, Hint, Picker, Policy};
use crate::snapshot::Ready;
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// Guardrail: gRFC A48 allows at most ten choices.
const MOST_CHOICES: u32 = 10;

/// P2C by requests in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeastRequest {
    choices: u32,
}

impl LeastRequest {
    /// `choices` is clamped to 2..=10, as gRFC A48 asks.
    pub(crate) fn new(choices: u32) -> Self {
        Self { choices: choices.clamp(2, MOST_CHOICES) }
    }
}

impl Policy for LeastRequest {
    fn picker(&self, _: &[Arc<Ready>]) -> Arc<dyn Picker> {
        Arc::new(*self)
    }
}

impl Picker for LeastRequest {
    fn pick(&self, ready: &[Arc<Ready>], hint: Hint) -> usize {
        let count = ready.len() as u64;
        if count <= 1 {
            return 0;
        }
        // The first choice is any; each further one is any other than the one before it.
        let mut random = Bits(hint.random);
        let mut best = random.below(count);
        let mut last = best;
        for _ in 1..self.choices {
            last = (last + 1 + random.below(count - 1)) % count;
            if lighter(ready, last, best) {
                best = last;
            }
        }
        best as usize
    }
}

/// Whether `a` has less load per weight than `b`.
fn lighter(ready: &[Arc<Ready>], a: u64, b: u64) -> bool {
    let (Some(a), Some(b)) = (ready.get(a as usize), ready.get(b as usize)) else { return false };
    let load = |r: &Ready| r.endpoint.in_flight.load(Relaxed) as u64 + 1;
    load(a) * u64::from(b.weight) < load(b) * u64::from(a.weight)
}
