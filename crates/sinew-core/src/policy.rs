//! What is known of each method before it is ever called: its kind, who may call it, how long it may take, whether it
//! may be repeated.
//!
//! Contracts crates carry [`ServicePolicy`] tables generated from their proto files. [`Policies`] resolves them, with
//! each service's config, into one lookup by method path.

use crate::{
    InvalidName, ServiceName,
    service_config::{
        Balancing, CircuitBreakerConfig, ConfigError, HedgingPolicy, OutlierDetectionConfig, RetryPolicy, RetryThrottling,
        ServiceConfig, SlowStartConfig,
    },
};
use std::{collections::BTreeMap, collections::HashMap, sync::Arc, time::Duration};

/// How long a unary call may take when neither caller nor service config says.
///
/// Long enough for any call that a person waits for; short enough that a stuck dependency frees its callers.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// One proto package: generated.
#[derive(Debug, Clone, Copy)]
pub struct ServicePolicy {
    /// The service's name in the registry: `order`.
    pub name: &'static str,
    /// The gRPC services it serves.
    pub services: &'static [GrpcService],
    /// Its gRPC service config, JSON.
    pub service_config: &'static str,
}

/// One gRPC service: generated.
#[derive(Debug, Clone, Copy)]
pub struct GrpcService {
    /// Full name: `shop.order.v1.OrderService`.
    pub name: &'static str,
    /// Its methods.
    pub methods: &'static [Method],
}

/// One method: generated.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// `/shop.order.v1.OrderService/PlaceOrder`.
    pub path: &'static str,
    /// Which sides stream.
    pub kind: MethodKind,
    /// Whether it may be repeated: `option idempotency_level`.
    pub idempotency: Idempotency,
    /// Who may call it: `option (sinew.auth.v1.access)`.
    pub access: Access,
}

/// Which sides of a method stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodKind {
    /// One message each way.
    Unary,
    /// Many requests, one response.
    ClientStreaming,
    /// One request, many responses.
    ServerStreaming,
    /// Many of both.
    Bidirectional,
}

/// Whether a call may be repeated after its first attempt may have had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// Nothing is promised: never repeated once the server may have seen it.
    Unknown,
    /// No effect at all.
    NoSideEffects,
    /// Same request, same effect, however often.
    Idempotent,
}

impl Idempotency {
    /// Whether a second attempt is harmless.
    pub fn repeatable(self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// Whoever holds a valid token.
    User,
    /// Whoever holds an administrator's token.
    Admin,
    /// Only services of the mesh; never through the gateway. What is unmarked is this.
    Internal,
}

/// All that is known of one method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodPolicy {
    /// Method path.
    pub path: Arc<str>,
    /// Which sides stream; `None` for methods no policy knows.
    pub kind: Option<MethodKind>,
    /// Whether it may be repeated.
    pub idempotency: Idempotency,
    /// Who may call it.
    pub access: Access,
    /// Longest time a call may take; none for streams without one in their config, and for unknown methods.
    pub timeout: Option<Duration>,
    /// Wait for an endpoint instead of failing at once.
    pub wait_for_ready: bool,
    /// When to try again; only where the method may be repeated.
    pub retry: Option<RetryPolicy>,
    /// When to ask another endpoint as well; only where the method may be repeated.
    pub hedging: Option<HedgingPolicy>,
    /// The breaker that it has for itself at each endpoint, where it has one.
    pub breaker: Option<CircuitBreakerConfig>,
    /// Largest request sent, in bytes.
    pub max_request_bytes: Option<u32>,
    /// Largest response taken, in bytes.
    pub max_response_bytes: Option<u32>,
}

impl MethodPolicy {
    /// Whether its calls are made again, or several times at once, as they go.
    pub fn is_repeated(&self) -> bool {
        self.retry.is_some() || self.hedging.is_some()
    }

    /// What holds for a method that no policy knows: no time-out, no retry, internal.
    pub fn unknown(path: &str) -> Self {
        Self {
            path: path.into(),
            kind: None,
            idempotency: Idempotency::Unknown,
            access: Access::Internal,
            timeout: None,
            wait_for_ready: false,
            retry: None,
            hedging: None,
            breaker: None,
            max_request_bytes: None,
            max_response_bytes: None,
        }
    }
}

/// What is known of one service as a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationPolicy {
    /// How to balance; the mesh's default where the config names none.
    pub balancing: Option<Balancing>,
    /// How many of its endpoints a client uses; all where the config does not say.
    pub subset: Option<u32>,
    /// How one that has just come is spared.
    pub slow_start: Option<SlowStartConfig>,
    /// Whom to leave out.
    pub outliers: Option<OutlierDetectionConfig>,
    /// When an endpoint that fails is left alone, where the client's own settings are not meant.
    pub breaker: Option<CircuitBreakerConfig>,
    /// When to pause retries.
    pub throttling: Option<RetryThrottling>,
    /// The gRPC services it serves.
    pub grpc_services: Vec<&'static str>,
}

/// Every policy of a process, resolved.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    methods: HashMap<&'static str, Arc<MethodPolicy>>,
    destinations: BTreeMap<ServiceName, Arc<DestinationPolicy>>,
}

/// Why policies were refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A package's name is no service name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A service config is malformed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A config names a method that its service does not have.
    #[error("service config of {of}: {method} is no method of it")]
    NoSuchMethod {
        /// Whose config.
        of: &'static str,
        /// What it named.
        method: String,
    },
    /// A retry or hedging policy for a method that must not be repeated.
    #[error("service config of {of}: {method} has a {policy} but declares no idempotency_level, so it must not be repeated")]
    NotRepeatable {
        /// Whose config.
        of: &'static str,
        /// The method.
        method: &'static str,
        /// `retryPolicy` or `hedgingPolicy`.
        policy: &'static str,
    },
    /// Two services serve the same gRPC service.
    #[error("{first} and {second} both claim {grpc_service}")]
    Claimed {
        /// The contested gRPC service.
        grpc_service: &'static str,
        /// Who came first.
        first: ServiceName,
        /// Who came second.
        second: ServiceName,
    },
}

impl Policies {
    /// Resolves tables; the first thing wrong refuses them all.
    pub fn resolve(tables: &[ServicePolicy]) -> Result<Self, PolicyError> {
        let mut policies = Self::default();
        let mut owners: BTreeMap<&'static str, ServiceName> = BTreeMap::new();
        for table in tables {
            let name = ServiceName::new(table.name)?;
            let config = ServiceConfig::parse(table.name, table.service_config)?;
            known_names(table, &config)?;
            for service in table.services {
                if let Some(first) = owners.insert(service.name, name.clone()) {
                    return Err(PolicyError::Claimed { grpc_service: service.name, first, second: name });
                }
                for method in service.methods {
                    policies.methods.insert(method.path, Arc::new(resolve_method(table, service, method, &config)?));
                }
            }
            let (mut balancing, mut outliers, mut subset) = (config.load_balancing_config.first(), None, None);
            while let Some(child) = balancing.and_then(Balancing::child) {
                match balancing {
                    Some(Balancing::OutlierDetectionExperimental(config)) => outliers = Some(config.clone()),
                    Some(Balancing::RandomSubsettingExperimental(config)) => subset = Some(config.subset_size),
                    _ => {}
                }
                balancing = Some(child);
            }
            let destination = DestinationPolicy {
                balancing: balancing.cloned(),
                subset,
                slow_start: config.sinew_slow_start,
                outliers,
                breaker: config.sinew_circuit_breaker,
                throttling: config.retry_throttling,
                grpc_services: table.services.iter().map(|s| s.name).collect(),
            };
            policies.destinations.insert(name, Arc::new(destination));
        }
        Ok(policies)
    }

    /// The policy of a method path; `None` if no table knows it.
    pub fn method(&self, path: &str) -> Option<&Arc<MethodPolicy>> {
        self.methods.get(path)
    }

    /// The policy of a destination; `None` if no table knows it.
    pub fn destination(&self, service: &ServiceName) -> Option<&Arc<DestinationPolicy>> {
        self.destinations.get(service)
    }

    /// Every method, in no order.
    pub fn methods(&self) -> impl Iterator<Item = &Arc<MethodPolicy>> {
        self.methods.values()
    }

    /// Every destination, by name.
    pub fn destinations(&self) -> impl Iterator<Item = (&ServiceName, &Arc<DestinationPolicy>)> {
        self.destinations.iter()
    }
}

fn known_names(table: &ServicePolicy, config: &ServiceConfig) -> Result<(), PolicyError> {
    let missing = |method: String| PolicyError::NoSuchMethod { of: table.name, method };
    for name in config.method_config.iter().flat_map(|c| &c.name).filter(|n| !n.service.is_empty()) {
        let service = table.services.iter().find(|s| s.name == name.service).ok_or_else(|| missing(name.service.clone()))?;
        let path = format!("/{}/{}", name.service, name.method);
        if !name.method.is_empty() && !service.methods.iter().any(|m| m.path == path) {
            return Err(missing(path));
        }
    }
    Ok(())
}

fn resolve_method(
    table: &ServicePolicy,
    service: &GrpcService,
    method: &Method,
    config: &ServiceConfig,
) -> Result<MethodPolicy, PolicyError> {
    let name = method.path.rsplit('/').next().unwrap_or_default();
    let config = config.method(service.name, name);
    let mut retry = config.and_then(|c| c.retry_policy.clone());
    let mut hedging = config.and_then(|c| c.hedging_policy.clone());
    if (retry.is_some() || hedging.is_some()) && !method.idempotency.repeatable() {
        let named = |n: &crate::service_config::MethodName| n.service == service.name && n.method == name;
        if config.is_some_and(|c| c.name.iter().any(named)) {
            let policy = if retry.is_some() { "retryPolicy" } else { "hedgingPolicy" };
            return Err(PolicyError::NotRepeatable { of: table.name, method: method.path, policy });
        }
        // A default for a whole service covers those of its methods that may be repeated.
        (retry, hedging) = (None, None);
    }
    let default = (method.kind == MethodKind::Unary).then_some(DEFAULT_TIMEOUT);
    Ok(MethodPolicy {
        path: method.path.into(),
        kind: Some(method.kind),
        idempotency: method.idempotency,
        access: method.access,
        timeout: config.and_then(|c| c.timeout).or(default),
        wait_for_ready: config.and_then(|c| c.wait_for_ready).unwrap_or(false),
        retry,
        hedging,
        breaker: config.and_then(|c| c.sinew_circuit_breaker),
        max_request_bytes: config.and_then(|c| c.max_request_message_bytes),
        max_response_bytes: config.and_then(|c| c.max_response_message_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: &[Method] = &[
        Method { path: "/a.B/Get", kind: MethodKind::Unary, idempotency: Idempotency::NoSideEffects, access: Access::User },
        Method { path: "/a.B/Put", kind: MethodKind::Unary, idempotency: Idempotency::Unknown, access: Access::Internal },
        Method {
            path: "/a.B/Tail",
            kind: MethodKind::ServerStreaming,
            idempotency: Idempotency::Unknown,
            access: Access::Internal,
        },
    ];
    const SERVICES: &[GrpcService] = &[GrpcService { name: "a.B", methods: METHODS }];
    const RETRY: &str = r#"{"maxAttempts":3,"initialBackoff":"0.1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}"#;

    fn resolve(config: String) -> Result<Policies, PolicyError> {
        Policies::resolve(&[ServicePolicy { name: "b", services: SERVICES, service_config: config.leak() }])
    }

    #[test]
    fn a_service_wide_retry_covers_only_what_may_be_repeated() {
        let policies =
            resolve(format!(r#"{{"methodConfig":[{{"name":[{{"service":"a.B"}}],"retryPolicy":{RETRY}}}]}}"#)).expect("valid");
        let method = |path| policies.method(path).expect("known");
        assert!(method("/a.B/Get").retry.is_some());
        assert!(method("/a.B/Put").retry.is_none());
        assert_eq!(method("/a.B/Put").timeout, Some(DEFAULT_TIMEOUT));
        assert_eq!(method("/a.B/Tail").timeout, None);
        assert!(policies.method("/a.B/Nope").is_none());
    }

    #[test]
    fn a_repetition_of_a_method_that_must_not_be_repeated_is_refused() {
        for (policy, fields) in [("retryPolicy", RETRY), ("hedgingPolicy", r#"{"maxAttempts":2}"#)] {
            let config = |method| format!(r#"{{"methodConfig":[{{"name":[{{"service":"a.B"{method}}}],"{policy}":{fields}}}]}}"#);
            let text = resolve(config(r#","method":"Put""#)).expect_err("refused").to_string();
            assert!(text.contains("/a.B/Put") && text.contains(policy), "{text}");
            // Of a whole service it covers those that may be.
            let policies = resolve(config("")).expect("valid");
            let repeats = |path| policies.method(path).is_some_and(|m| m.retry.is_some() || m.hedging.is_some());
            assert!(repeats("/a.B/Get") && !repeats("/a.B/Put"));
        }
    }

    #[test]
    fn unknown_methods_and_double_claims_are_refused() {
        let config = r#"{"methodConfig":[{"name":[{"service":"a.B","method":"Gone"}]}]}"#;
        assert!(matches!(resolve(config.into()), Err(PolicyError::NoSuchMethod { .. })));
        let one = ServicePolicy { name: "b", services: SERVICES, service_config: "{}" };
        let two = ServicePolicy { name: "c", ..one };
        assert!(matches!(Policies::resolve(&[one, two]), Err(PolicyError::Claimed { .. })));
    }
}
