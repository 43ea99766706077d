//! Wall-clock time as a port. Durations and deadlines use `tokio::time`, which tests can pause.

use std::{fmt, time::SystemTime};

/// Tells the date.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall clock's time now.
    fn now(&self) -> SystemTime;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
