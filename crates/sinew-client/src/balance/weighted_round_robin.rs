//! One after the other, the heavier more often.

use super::{
    policy::{Hint, Picker, Policy},
    schedule::turns,
};
use crate::snapshot::Ready;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Shares by the weights that endpoints registered with (Consul's `Weights`: one for passing checks, one for warning).
/// gRPC's policy of a similar name weighs by load reports instead (gRFC A58), which is why this one has its own.
#[derive(Debug, Default)]
pub(crate) struct WeightedRoundRobin {
    next: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Turns {
    next: Arc<AtomicUsize>,
    /// Empty for equal weights.
    turns: Vec<u32>,
}

impl Policy for WeightedRoundRobin {
    fn picker(&self, ready: &[Arc<Ready>]) -> Arc<dyn Picker> {
        Arc::new(Turns { next: self.next.clone(), turns: turns(ready.iter().map(|ready| ready.weight)) })
    }
}

impl Picker for Turns {
    fn pick(&self, ready: &[Arc<Ready>], _: Hint) -> usize {
        let next = self.next.fetch_add(1, Relaxed);
        let turn = self.turns.get(next % self.turns.len().max(1));
        turn.map_or_else(|| next % ready.len().max(1), |at| *at as usize)
    }
}
