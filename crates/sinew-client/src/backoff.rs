//! How long to wait after a failed attempt to connect.

use sinew_core::Rng;
use std::time::Duration;

/// The wait after `failures` failures in a row (1 or more): doubles from `min` to `max`, and the upper half of it is
/// random, so that the clients of a restarted server do not come back all at once.
pub(crate) fn delay(failures: u32, min: Duration, max: Duration, rng: &dyn Rng) -> Duration {
    let doubled = min.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(max);
    doubled.mul_f64(0.5 + rng.unit() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::delay;
    use sinew_core::SharedRng;
    use std::time::Duration;

    #[test]
    fn it_doubles_up_to_the_limit_and_jitters_within_the_upper_half() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let rng = SharedRng::seeded(7);
        for (failures, full) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (60, 1000)] {
            for _ in 0..50 {
                let wait = delay(failures, min, max, &rng).as_millis();
                assert!((full / 2..=full).contains(&wait), "{failures}: {wait}");
            }
        }
    }
}
