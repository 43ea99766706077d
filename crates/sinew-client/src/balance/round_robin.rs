//! One after the other.

use super::Picker;
use crate::snapshot::Ready;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// gRPC's `round_robin`: equal shares, whatever the endpoints' speed or weight.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    next: AtomicUsize,
}

impl Picker for RoundRobin {
    fn pick(&self, ready: &[Ready], _random: u64) -> usize {
        self.next.fetch_add(1, Relaxed) % ready.len().max(1)
    }
}
