//! Any of them.

use super::{
    policy::{Bits, Hint, Picker, Policy},
    schedule::turns,
};
use crate::snapshot::Ready;
use std::sync::Arc;

/// Shares by weight, at random: nothing is remembered, so any number of clients that begin together do not walk in step.
#[derive(Debug)]
pub(crate) struct Random;

/// The turns of [`WeightedRoundRobin`](super::weighted_round_robin::WeightedRoundRobin), of which any is taken.
#[derive(Debug)]
struct Lots(Vec<u32>);

impl Policy for Random {
    fn picker(&self, ready: &[Arc<Ready>]) -> Arc<dyn Picker> {
        Arc::new(Lots(turns(ready.iter().map(|ready| ready.weight))))
    }
}

impl Picker for Lots {
    fn pick(&self, ready: &[Arc<Ready>], hint: Hint) -> usize {
        let mut random = Bits(hint.random);
        let lot = self.0.get(random.below(self.0.len().max(1) as u64) as usize);
        lot.map_or_else(|| random.below(ready.len().max(1) as u64) as usize, |at| *at as usize)
    }
}
