//! The places between call and commit where tests stop a coordinator.

use sinew_core::BoxFuture;
use std::{fmt, sync::Arc};

/// Awaited at each boundary with its name, in builds with `debug_assertions`: a test that never finishes it has frozen
/// the coordinator there, one that finishes it later has woken it.
#[derive(Clone)]
#[cfg_attr(not(debug_assertions), expect(dead_code, reason = "nothing is probed in builds that ship"))]
pub struct Probe(Arc<At>);

type At = dyn Fn(&str) -> BoxFuture<'static, ()> + Send + Sync;

impl Probe {
    /// Calls `at` at each boundary.
    pub fn new(at: impl Fn(&str) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(at))
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// Passes one boundary: the process may end here, or a test may hold it.
#[cfg(debug_assertions)]
pub(crate) async fn pass(name: &str, probe: Option<&Probe>) {
    sinew_core::failpoint!(name);
    if let Some(probe) = probe {
        (probe.0)(name).await;
    }
}

/// Nothing, in builds that ship.
#[cfg(not(debug_assertions))]
pub(crate) async fn pass(_name: &str, _probe: Option<&Probe>) {}
