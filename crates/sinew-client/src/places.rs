//! Places of which there are so many: streams of a connection, calls that wait.

use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many are taken. Whoever takes one says how many there are: a connection's peer may change that.
#[derive(Debug, Default)]
pub(crate) struct Places(AtomicUsize);

impl Places {
    /// Takes one, unless so many are taken; it must be given back.
    pub(crate) fn take(&self, limit: usize) -> bool {
        // Counted first: two must not both take the last one.
        if self.0.fetch_add(1, Relaxed) < limit {
            return true;
        }
        self.give_back();
        false
    }

    pub(crate) fn give_back(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn taken(&self) -> usize {
        self.0.load(Relaxed)
    }
}
