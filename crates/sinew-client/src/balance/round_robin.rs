//! One after the other.

use super::policy::{Hint, Picker, Policy};
use crate::snapshot::Ready;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// gRPC's `round_robin`: equal shares, whatever the endpoints' speed or weight. A change of the endpoints does not begin
/// anew: each client would otherwise return to the first of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RoundRobin {
    next: Arc<AtomicUsize>,
}

impl Policy for RoundRobin {
    fn picker(&self, _: &[Arc<Ready>]) -> Arc<dyn Picker> {
        Arc::new(self.clone())
    }
}

impl Picker for RoundRobin {
    fn pick(&self, ready: &[Arc<Ready>], _: Hint) -> usize {
        self.next.fetch_add(1, Relaxed) % ready.len().max(1)
    }
}
