//! The generic cell rate algorithm: a leaky bucket kept as one number.
//!
//! ITU-T I.371. A key's state is its theoretical arrival time (TAT): when it would next be idle if every call took
//! `1 / rate`. A call may come as long as that lies at most `burst` calls ahead. One `u64` a key, no timers, and refill
//! is exact instead of by the tick.

use std::time::Duration;

/// How many calls a key may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Calls a second in the long run; at least 1.
    pub(super) per_second: u32,
    /// Calls at once after a rest; at least 1.
    pub(super) burst: u32,
}

/// What a quota says to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the call may go on; otherwise how long to wait.
    pub wait: Option<Duration>,
    /// Calls at once after a rest.
    pub limit: u32,
    /// Calls that may follow now.
    pub remaining: u32,
    /// When all of `limit` may come again.
    pub reset: Duration,
}

impl Quota {
    /// `None` where one of them is 0: a quota that lets nothing through is a mistake.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        (per_second > 0 && burst > 0).then_some(Self { per_second, burst })
    }

    /// Nanoseconds that one call takes.
    fn interval(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second).min(1_000_000_000)
    }

    /// Takes one call out of a quota. `tat` and `now` are nanoseconds on one clock; gives the new TAT, which is the old
    /// one where the call must wait.
    pub(crate) fn take(self, tat: u64, now: u64) -> (u64, Verdict) {
        let interval = self.interval();
        let tolerance = interval.saturating_mul(u64::from(self.burst));
        let next = tat.max(now).saturating_add(interval);
        let earliest = next.saturating_sub(tolerance);
        let (tat, wait) = if earliest > now { (tat, Some(Duration::from_nanos(earliest - now))) } else { (next, None) };
        let ahead = tat.saturating_sub(now);
        let remaining = tolerance.saturating_sub(ahead) / interval;
        let verdict = Verdict {
            wait,
            limit: self.burst,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(ahead),
        };
        (tat, verdict)
    }
}

impl std::str::FromStr for Quota {
    type Err = String;

    /// `50/100`: 50 calls a second, 100 at once.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(rate, burst)| Some((rate.trim().parse().ok()?, burst.trim().parse().ok()?)));
        parts
            .and_then(|(rate, burst)| Self::new(rate, burst))
            .ok_or_else(|| "not a quota; write calls a second and calls at once, as in 50/100".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_and_then_one_call_an_interval() {
        let quota = Quota::new(10, 3).expect("valid");
        let (mut tat, mut passed) = (0, Vec::new());
        for now_ms in [0, 0, 0, 0, 50, 100, 101, 1_000, 1_000, 1_000, 1_000] {
            let (next, verdict) = quota.take(tat, now_ms * 1_000_000);
            tat = next;
            passed.push(verdict.wait.is_none());
        }
        assert_eq!(passed, [true, true, true, false, false, true, false, true, true, true, false]);
    }

    #[test]
    fn the_headers_tell_the_truth() {
        let quota = Quota::new(10, 3).expect("valid");
        let (tat, first) = quota.take(0, 0);
        assert_eq!((first.limit, first.remaining, first.reset), (3, 2, Duration::from_millis(100)));
        let (tat, _) = quota.take(tat, 0);
        let (tat, third) = quota.take(tat, 0);
        assert_eq!((third.remaining, third.reset), (0, Duration::from_millis(300)));
        let (same, refused) = quota.take(tat, 0);
        assert_eq!((same, refused.wait), (tat, Some(Duration::from_millis(100))));
    }

    #[test]
    fn quotas_are_written_as_rate_and_burst() {
        assert_eq!("50/100".parse(), Ok(Quota { per_second: 50, burst: 100 }));
        for bad in ["", "50", "0/1", "1/0", "a/b", "-1/2", "50/100/2"] {
            assert!(bad.parse::<Quota>().is_err(), "{bad}");
        }
    }

    proptest! {
        /// In any stretch of time no more pass than a burst and what the rate gives.
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            rate in 1u32..2_000, burst in 1u32..50, gaps in prop::collection::vec(0u64..20_000_000, 1..300),
        ) {
            let quota = Quota::new(rate, burst).expect("valid");
            let (mut tat, mut now, mut passed) = (0, 1_000_000_000u64, Vec::new());
            for gap in gaps {
                now += gap;
                let (next, verdict) = quota.take(tat, now);
                prop_assert!(next >= tat && verdict.remaining <= burst);
                tat = next;
                match verdict.wait {
                    None => passed.push(now),
                    // Whoever waits as told gets through.
                    Some(wait) => {
                        let later = now + u64::try_from(wait.as_nanos()).expect("short");
                        prop_assert!(quota.take(tat, later).1.wait.is_none());
                        prop_assert!(quota.take(tat, later - 1).1.wait.is_some());
                    }
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    let allowed = u64::from(burst) + (to - from) / quota.interval();
                    prop_assert!((j - i + 1) as u64 <= allowed, "{} calls in {} ns", j - i + 1, to - from);
                }
            }
        }
    }
}
