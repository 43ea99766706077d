//! How many calls are under way.

use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts them.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(AtomicUsize);

impl UnderWay {
    /// One more, if as many may be; how many there are with it. It must leave.
    pub(crate) fn enter<E>(&self, may: impl FnOnce(usize) -> Result<(), E>) -> Result<usize, E> {
        // Counted first: two must not both take the last place.
        let count = self.0.fetch_add(1, Relaxed) + 1;
        may(count).inspect_err(|_| self.leave()).map(|()| count)
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}
