//! The time of day as both databases can keep it.

use chrono::{DateTime, SubsecRound, Utc};
use sinew_core::Clock;

/// The clock's time cut to microseconds: PostgreSQL keeps no more, and what was written must equal what is read.
pub fn now(clock: &dyn Clock) -> DateTime<Utc> {
    DateTime::<Utc>::from(clock.now()).trunc_subsecs(6)
}
