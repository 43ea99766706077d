//! Which breakers an endpoint has: one of its own, and one for each method that asks for it.

use super::Breaker;
use crate::{
    config::{BreakerConfig, FailureRate},
    describe::BreakerState,
};
use sinew_core::{
    Policies, ServiceName,
    service_config::{CircuitBreakerConfig, FailureRateConfig},
};
use std::sync::Arc;
use tokio::time::Instant;

/// The settings of each breaker of a destination's endpoints.
#[derive(Debug)]
pub(crate) struct Plan {
    own: BreakerConfig,
    /// In order of path.
    methods: Vec<(Arc<str>, BreakerConfig)>,
}

/// The breakers of one endpoint.
#[derive(Debug)]
pub(crate) struct Breakers {
    own: Breaker,
    /// In the order of the plan's methods.
    methods: Box<[Breaker]>,
}

impl Plan {
    /// What the service's config asks for, and the client's settings for the rest.
    pub(crate) fn new(service: &ServiceName, policies: &Policies, default: BreakerConfig) -> Self {
        let Some(destination) = policies.destination(service) else { return Self { own: default, methods: Vec::new() } };
        let own = destination.breaker.as_ref().map_or(default, |config| default.with(config));
        let ours = |path: &str| destination.grpc_services.iter().any(|s| path.trim_start_matches('/').split('/').next() == Some(s));
        let with = policies.methods().filter(|method| ours(&method.path));
        let mut methods: Vec<_> = with.filter_map(|m| Some((m.path.clone(), own.with(m.breaker.as_ref()?)))).collect();
        methods.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self { own, methods }
    }

    /// Which of the methods' breakers is this one's; none where it has none of its own.
    pub(crate) fn position(&self, path: &str) -> Option<usize> {
        self.methods.binary_search_by(|(known, _)| (**known).cmp(path)).ok()
    }

    /// The settings of the method's breaker, or of the endpoint's.
    pub(crate) fn of(&self, method: Option<usize>) -> &BreakerConfig {
        method.and_then(|at| self.methods.get(at)).map_or(&self.own, |(_, config)| config)
    }

    /// The breakers of a new endpoint.
    pub(crate) fn breakers(&self, now: Instant) -> Breakers {
        let methods = self.methods.iter().map(|(_, config)| Breaker::new(*config, now)).collect();
        Breakers { own: Breaker::new(self.own, now), methods }
    }

    /// The methods whose breaker at this endpoint is not closed, for people.
    pub(crate) fn describe(&self, breakers: &Breakers) -> Vec<(Arc<str>, BreakerState)> {
        let all = self.methods.iter().zip(&breakers.methods).map(|((path, _), breaker)| (path.clone(), breaker.describe()));
        all.filter(|(_, state)| *state != BreakerState::Closed).collect()
    }
}

impl Breakers {
    /// The method's, or the endpoint's.
    pub(crate) fn of(&self, method: Option<usize>) -> &Breaker {
        method.and_then(|at| self.methods.get(at)).unwrap_or(&self.own)
    }

    /// The endpoint has a new connection.
    pub(crate) fn reconnected(&self) {
        std::iter::once(&self.own).chain(&self.methods).for_each(Breaker::reconnected);
    }
}

impl BreakerConfig {
    /// These, with what the config says instead.
    fn with(self, config: &CircuitBreakerConfig) -> Self {
        let rate =
            |rate: FailureRateConfig| FailureRate { percent: rate.percent, window: rate.window, minimum: rate.minimum_requests };
        Self {
            failures: config.consecutive_failures.unwrap_or(self.failures),
            rate: config.failure_rate.map(rate).or(self.rate),
            open_for: config.open_time.unwrap_or(self.open_for),
            all_open_for: config.all_open_time.unwrap_or(self.all_open_for),
            probes: config.probes.unwrap_or(self.probes),
            successes: config.successes.unwrap_or(self.successes),
        }
    }
}

#[cfg(test)]
impl Plan {
    /// One breaker with its defaults.
    pub(crate) fn of_test() -> Self {
        Self { own: BreakerConfig::default(), methods: Vec::new() }
    }
}
