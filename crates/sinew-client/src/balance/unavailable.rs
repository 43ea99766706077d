//! Why no endpoint could take a call: written for whoever reads it at three in the morning.

use super::Passed;
use crate::snapshot::{Phase, Snapshot};
use sinew_core::{ServiceName, State};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// No endpoint could take the call.
#[derive(Debug, Clone)]
pub struct Unavailable {
    service: ServiceName,
    state: State,
    endpoints: usize,
    connecting: usize,
    failed: usize,
    last_error: Option<Arc<str>>,
    open: usize,
    full: usize,
    next_probe: Option<Duration>,
}

impl Unavailable {
    pub(super) fn new(service: &ServiceName, snapshot: &Snapshot, passed: Passed, now: Instant) -> Self {
        let count = |f: fn(&Phase) -> bool| snapshot.members.iter().filter(|m| f(&m.phase)).count();
        let error = |phase: &Phase| if let Phase::Failed(error) = phase { Some(error.clone()) } else { None };
        Self {
            service: service.clone(),
            state: snapshot.state,
            endpoints: snapshot.members.len(),
            connecting: count(|p| *p == Phase::Connecting),
            failed: count(|p| matches!(p, Phase::Failed(_))),
            last_error: snapshot.members.iter().find_map(|m| error(&m.phase)),
            open: passed.open,
            full: passed.full,
            next_probe: passed.next_probe.map(|at| at.saturating_duration_since(now)),
        }
    }
}

impl Unavailable {
    /// When the first of the open breakers probes.
    pub(crate) fn next_probe(&self) -> Option<Duration> {
        self.next_probe
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, endpoints, .. } = self;
        match (self.state, endpoints) {
            (State::Unknown, _) => return write!(f, "{service}: the registry has not answered yet"),
            (_, 0) => return write!(f, "{service}: no endpoint is registered"),
            _ => write!(f, "{service}: none of {endpoints} endpoints can take the call")?,
        }
        let mut separator = ": ";
        let mut say = |f: &mut fmt::Formatter<'_>, count: usize, what: &str| {
            if count > 0 {
                write!(f, "{separator}{count} {what}")?;
                separator = ", ";
            }
            Ok(())
        };
        say(f, self.connecting, "connecting")?;
        say(f, self.failed, "not connected")?;
        if let Some(error) = &self.last_error {
            write!(f, " ({error})")?;
        }
        say(f, self.full, "with every stream taken")?;
        say(f, self.open, "with an open breaker")?;
        if let Some(wait) = self.next_probe {
            write!(f, " (next probe in {:.1} s)", wait.as_secs_f64())?;
        }
        if self.state == State::Stale {
            f.write_str("; the registry is unreachable, this is its last answer")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unavailable {}
