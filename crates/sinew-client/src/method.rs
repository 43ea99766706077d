//! What a destination knows of each of its methods, resolved at the first call and found without locks afterwards.

use crate::{breaker::Plan, headers};
use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use http::HeaderValue;
use sinew_core::{
    Policies, ServiceName,
    fault_injection::{Fault, FaultInjection},
    policy::MethodPolicy,
    stats::{CallKey, CallStats, Registry, Side},
};
use std::{collections::HashMap, sync::Arc};

/// Methods without policy that get series of their own; further ones share one. Paths come from callers (a gateway
/// passes them through), and memory that grows with what strangers send is a leak.
const UNKNOWN_MAX: usize = 100;

/// One method of one destination.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) policy: Arc<MethodPolicy>,
    /// What is put in its way on purpose.
    pub(crate) fault: Option<Fault>,
    /// Which breaker of an endpoint's methods is its own, if one is.
    pub(crate) breaker: Option<usize>,
    /// `grpc-timeout` for the policy's own time-out, encoded once.
    pub(crate) timeout_header: Option<HeaderValue>,
    /// One record per call.
    pub(crate) calls: Arc<CallStats>,
    /// One record per attempt.
    pub(crate) attempts: Arc<CallStats>,
}

/// Every method of one destination that was ever called.
#[derive(Debug)]
pub(crate) struct Methods {
    service: ServiceName,
    policies: Arc<Policies>,
    breakers: Arc<Plan>,
    faults: Option<Arc<FaultInjection>>,
    /// Strangers can put only so many paths here: its hashes may be quick ones.
    known: ArcSwap<HashMap<Arc<str>, Arc<Method>, RandomState>>,
    other: Arc<Method>,
}

impl Methods {
    pub(crate) fn new(
        service: &ServiceName,
        policies: Arc<Policies>,
        breakers: Arc<Plan>,
        faults: Option<Arc<FaultInjection>>,
    ) -> Self {
        let other = Arc::new(Method::new(service, Arc::new(MethodPolicy::unknown("other")), None, None));
        Self { service: service.clone(), policies, breakers, faults, known: ArcSwap::default(), other }
    }

    /// The method with this path.
    pub(crate) fn get(&self, path: &str) -> Arc<Method> {
        match self.known.load().get(path) {
            Some(method) => method.clone(),
            None => self.learn(path),
        }
    }

    #[cold]
    fn learn(&self, path: &str) -> Arc<Method> {
        let policy = match self.policies.method(path) {
            Some(policy) => policy.clone(),
            None => {
                let strangers = self.known.load().values().filter(|m| m.policy.kind.is_none()).count();
                if strangers >= UNKNOWN_MAX {
                    return self.other.clone();
                }
                Arc::new(MethodPolicy::unknown(path))
            }
        };
        let breaker = self.breakers.position(path);
        let fault = self.faults.as_ref().and_then(|faults| faults.of(path));
        let method = Arc::new(Method::new(&self.service, policy, breaker, fault));
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.entry(path.into()).or_insert_with(|| method.clone());
            known
        });
        method
    }
}

impl Method {
    fn new(service: &ServiceName, policy: Arc<MethodPolicy>, breaker: Option<usize>, fault: Option<Fault>) -> Self {
        let series =
            |side| Registry::global().calls(CallKey { side, service: service.as_str().into(), method: policy.path.clone() });
        Self {
            timeout_header: policy.timeout.map(headers::timeout_value),
            calls: series(Side::Client),
            attempts: series(Side::Attempt),
            policy,
            breaker,
            fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Methods, UNKNOWN_MAX};
    use crate::{breaker::Plan, config::BreakerConfig};
    use sinew_core::{Policies, ServiceName};
    use std::sync::Arc;

    #[test]
    fn strangers_beyond_the_cap_share_one_entry() {
        let (service, policies) = (ServiceName::new("m").expect("valid"), Arc::<Policies>::default());
        let breakers = Plan::new(&service, &policies, BreakerConfig::default());
        let methods = Methods::new(&service, policies, Arc::new(breakers), None);
        let first = methods.get("/a.B/0");
        for n in 1..UNKNOWN_MAX {
            assert!(!Arc::ptr_eq(&methods.get(&format!("/a.B/{n}")), &first));
        }
        assert!(Arc::ptr_eq(&methods.get("/a.B/0"), &first));
        assert!(Arc::ptr_eq(&methods.get("/x.Y/1"), &methods.get("/x.Y/2")));
    }
}
