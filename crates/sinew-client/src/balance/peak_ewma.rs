//! The quicker of two taken at random, as far as that is known.
//!
//! Load is what an endpoint's calls have taken lately, times how many wait there: peak EWMA (Finagle, Linkerd). An
//! endpoint that is 200 ms slower than the rest gets next to nothing, where counting calls in flight would still give it
//! some. What a failure, a silence, a cancelled call and a new endpoint count for is in [`crate::latency`].

use super::policy::{Bits, Hint, Picker, Policy};
use crate::snapshot::Ready;
use std::{sync::Arc, time::Duration};

/// P2C by peak EWMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeakEwma {
    decay: Duration,
}

/// How long what was seen counts, by default. An endpoint that took 200 ms where others take half of one is tried again
/// after about 6 s, one that had a pause of some milliseconds after 2 s. Longer shuns the better for longer than it takes
/// them to recover; shorter tries the slow too often.
const DECAY: Duration = Duration::from_secs(1);

impl PeakEwma {
    /// What was seen fades to 1/e within `decay`.
    pub(crate) fn new(decay: Option<Duration>) -> Self {
        Self { decay: decay.unwrap_or(DECAY) }
    }
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Policy for PeakEwma {
    fn picker(&self, _: &[Ready]) -> Arc<dyn Picker> {
        Arc::new(*self)
    }

    fn decay(&self) -> Option<Duration> {
        Some(self.decay)
    }
}

impl Picker for PeakEwma {
    fn pick(&self, ready: &[Ready], hint: Hint) -> usize {
        if ready.len() <= 1 {
            return 0;
        }
        let (first, second) = Bits(hint.random).two(ready.len());
        let (Some(a), Some(b)) = (ready.get(first), ready.get(second)) else { return 0 };
        let load = |ready: &Ready| ready.endpoint.latency.load(hint.now) / ready.weight as f32;
        if load(b) < load(a) { second } else { first }
    }
}
