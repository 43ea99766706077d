//! Query strings and blocking: `index`, `wait`, `passing`, `tag`.

use crate::{
    agent::Shared,
    definition::duration,
    state::{Service, State, Status},
};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Consul's wait where nobody says, and its longest.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What a query asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    index: u64,
    wait: Option<Duration>,
    passing: bool,
    tags: Vec<String>,
}

impl Query {
    /// Reads the pairs of a query string; what nobody knows is passed over, as Consul does.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut query = Self::default();
        for (key, value) in pairs {
            match key.as_str() {
                "index" => query.index = value.parse().map_err(|_| "Invalid index".to_owned())?,
                "wait" => query.wait = Some(duration(value).map_err(|_| "Invalid wait time".to_owned())?),
                "passing" => {
                    query.passing = match value.as_str() {
                        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err("Invalid value for ?passing".into()),
                    }
                }
                "tag" => query.tags.push(value.clone()),
                // It would answer more than was asked for, and nobody would notice.
                "filter" if !value.is_empty() => return Err("filter needs a real Consul; the embedded agent has none".into()),
                _ => {}
            }
        }
        Ok(query)
    }

    /// Whether a service is asked for: all of the tags, and healthy if so asked.
    pub(crate) fn takes(&self, service: &Service) -> bool {
        self.tagged(service) && (!self.passing || service.status() == Status::Passing)
    }

    /// Whether the service has all of the tags.
    pub(crate) fn tagged(&self, service: &Service) -> bool {
        self.tags.iter().all(|t| service.tags().iter().any(|x| x.eq_ignore_ascii_case(t)))
    }

    /// Returns when the index has passed the one asked for, or the wait is over; then it is time to look.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only waits. A dropped query keeps nothing.
    pub(crate) async fn block(&self, shared: &Shared, index: impl Fn(&State) -> u64) {
        let mut changes = shared.changes();
        let wait = self.wait.filter(|w| !w.is_zero()).unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT);
        // Up to a sixteenth more, so that those who began together do not end together.
        let jitter = wait.mul_f64(rand::random::<f64>() / 16.0);
        let limit = Instant::now() + wait + jitter;
        loop {
            let now = shared.read(&index);
            if self.index == 0 || now > self.index {
                return;
            }
            match timeout_at(limit, changes.changed()).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    }
}
