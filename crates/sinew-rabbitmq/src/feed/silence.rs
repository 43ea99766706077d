//! A queue that delivers nothing, though its publisher is ahead.
//!
//! A queue whose leader died is back within a second, and some are back without the consumers they had: a new connection
//! helps. A relay that is away looks the same from here, so new connections become rarer as long as nothing comes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Silence after which a consumer says so, and connects anew.
const SHORTEST: Duration = Duration::from_secs(5);

/// As long as nothing comes it is twice as long each time, up to this.
const LONGEST: Duration = Duration::from_secs(300);

/// What is known of the silence, over all connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Silence(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// How often it was told since something came.
    told: u32,
    /// The latest message could not be read: nobody knows which position it had.
    unread: bool,
}

impl Silence {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came.
    pub(super) fn broken(&self, readable: bool) {
        *self.known() = Known { told: 0, unread: !readable };
    }

    /// Whether it was told and lasts.
    pub(super) fn is_told(&self) -> bool {
        self.known().told > 0
    }

    /// Nothing has come for so long, though there should be something; true if that is long enough to tell.
    pub(super) fn lasts(&self, since: Duration) -> bool {
        let mut known = self.known();
        let long = !known.unread && since >= SHORTEST.saturating_mul(1 << known.told.min(10)).min(LONGEST);
        known.told += u32::from(long);
        long
    }
}

#[cfg(test)]
mod tests {
    use super::Silence;
    use std::time::Duration;

    #[test]
    fn it_is_told_more_and_more_rarely_until_something_comes() {
        let silence = Silence::default();
        let after = || (1..1_000).find(|seconds| silence.lasts(Duration::from_secs(*seconds)));
        let told: Vec<_> = (0..8).map(|_| after()).collect();
        assert_eq!(told, [5, 10, 20, 40, 80, 160, 300, 300].map(Some));
        assert!(silence.is_told());
        silence.broken(true);
        assert!(!silence.is_told());
        assert_eq!(after(), Some(5));
        silence.broken(false);
        assert_eq!(after(), None, "what could not be read may have been all there was");
    }
}
