//! The quicker of two taken at random, as far as that is known.
//!
//! Load is what an endpoint's calls have taken lately, times how many wait there: peak EWMA (Finagle, Linkerd). An
//! endpoint that is 200 ms slower than the rest gets next to nothing, where counting calls in flight would still give it
//! some. What a failure, a silence, a cancelled call and a new endpoint count for is in [`crate::latency`].

use super::policy::{Bits, Hint, Picker, Policy};
use crate::{latency::DECAY, snapshot::Ready};
use std::{sync::Arc, time::Duration};

/// P2C by peak EWMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeakEwma {
    decay: Duration,
}

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
    fn picker(&self, _: &[Arc<Ready>]) -> Arc<dyn Picker> {
        Arc::new(*self)
    }

    fn decay(&self) -> Duration {
        self.decay
    }
}

impl Picker for PeakEwma {
    fn pick(&self, ready: &[Arc<Ready>], hint: Hint) -> usize {
        if ready.len() <= 1 {
            return 0;
        }
        let (first, second) = Bits(hint.random).two(ready.len());
        let (Some(a), Some(b)) = (ready.get(first), ready.get(second)) else { return 0 };
        let load = |ready: &Ready| ready.endpoint.latency.load(hint.now) / ready.weight as f32;
        if load(b) < load(a) { second } else { first }
    }
}
