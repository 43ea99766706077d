//! One destination: what its calls share, and the owner of the task that keeps it current.

mod keeper;
mod slot;
mod subset;

use crate::{
    balance::{self, Policy},
    breaker::Plan,
    client::Ports,
    config::Config,
    connection::TcpConnector,
    endpoint::Endpoint,
    latency::Latency,
    method::Methods,
    places::Places,
    retry::{Budget, Throttle},
    snapshot::Snapshot,
};
use arc_swap::ArcSwap;
use http::uri::Authority;
use keeper::Keeper;
use sinew_core::{
    Connector, Endpoint as Registered, Policies, ServiceName, State,
    service_config::{OutlierDetectionConfig, SlowStartConfig},
    stats::Registry,
};
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// What all channels of one service share; ends its task when the last of them, and the client, are gone.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

/// The half that calls read.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) service: ServiceName,
    pub(crate) authority: Authority,
    pub(crate) config: Arc<Config>,
    pub(crate) ports: Ports,
    /// How its connections are opened.
    connector: Arc<dyn Connector>,
    pub(crate) methods: Methods,
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) breakers: Arc<Plan>,
    pub(crate) slow_start: Option<SlowStartConfig>,
    /// How many endpoints are used, and what decides which.
    subset: Option<(usize, u64)>,
    outliers: Option<OutlierDetectionConfig>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Tells calls that wait of the next snapshot, in the order in which they came; a `watch` would wake them in a random one.
    pub(crate) changed: Notify,
    /// Attempts under way, and calls that wait for an endpoint.
    pub(crate) in_flight: Arc<AtomicUsize>,
    pub(crate) pending: Places,
    pub(crate) budget: Budget,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) series: Series,
    grow: Notify,
    random: AtomicU64,
}

impl Destination {
    /// Starts following `service`; needs a running tokio runtime.
    pub(crate) fn start(service: &ServiceName, ports: &Ports, config: &Arc<Config>, policies: &Arc<Policies>) -> Self {
        let policy = policies.destination(service);
        let spread = balance::policy(policy.and_then(|p| p.balancing.as_ref()));
        let snapshot = Snapshot::new(State::Unknown, Vec::new(), &*spread, &config.locality, None);
        // A service name is a DNS label, and every DNS label an authority.
        let authority = Authority::try_from(service.as_str()).unwrap_or(Authority::from_static("invalid"));
        let hashes = spread.key().is_some();
        let breakers = Arc::new(Plan::new(service, policies, config.breaker));
        let shared = Arc::new(Shared {
            service: service.clone(),
            authority,
            config: config.clone(),
            ports: ports.clone(),
            connector: ports.connector.clone().unwrap_or_else(|| Arc::new(TcpConnector::new(&config.connection))),
            methods: Methods::new(service, policies.clone(), breakers.clone(), config.faults.clone()),
            policy: spread,
            breakers,
            // Hashing has its reasons to send a call there and nowhere else.
            slow_start: policy.and_then(|p| p.slow_start).filter(|_| !hashes),
            subset: policy.and_then(|p| p.subset).map(|size| (size as usize, ports.rng.next_u64())),
            outliers: policy.and_then(|p| p.outliers.clone()),
            snapshot: ArcSwap::from_pointee(snapshot),
            changed: Notify::new(),
            in_flight: Arc::default(),
            pending: Places::default(),
            budget: Budget::new(&config.retry, Instant::now()),
            throttle: policy.and_then(|p| p.throttling).map(Throttle::new),
            series: Series::new(service),
            grow: Notify::new(),
            random: AtomicU64::new(ports.rng.next_u64()),
        });
        let keeper = Keeper::new(shared.clone(), ports.discover.watch(service));
        Self { shared, _task: AbortOnDropHandle::new(tokio::spawn(keeper.run())) }
    }
}

impl Shared {
    /// A random number without a lock: SplitMix64 over a shared counter, seeded by the client's generator.
    pub(crate) fn random(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random number in `0.0..1.0`, without a lock.
    pub(crate) fn random_unit(&self) -> f64 {
        (self.random() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A new endpoint, of which nothing is known.
    pub(crate) fn endpoint(&self, number: u64, registered: &Registered, now: Instant) -> Endpoint {
        Endpoint {
            number,
            name: registered.to_string().into(),
            breakers: self.breakers.breakers(now),
            latency: Latency::new(self.policy.decay(), now),
            tally: Default::default(),
            in_flight: Default::default(),
            all_in_flight: self.in_flight.clone(),
            breakers_opened: self.series.breakers_opened.clone(),
            crowded: Default::default(),
            made: now,
            connected_ms: Default::default(),
        }
    }

    /// A call found every stream of this endpoint taken.
    pub(crate) fn crowded(&self, endpoint: &Endpoint) {
        if !endpoint.crowded.swap(true, Relaxed) {
            self.grow.notify_one();
        }
    }
}

/// What a destination reports besides its calls.
#[derive(Debug)]
pub(crate) struct Series {
    endpoints: Arc<AtomicI64>,
    endpoints_ready: Arc<AtomicI64>,
    pub(crate) breakers_opened: Arc<AtomicU64>,
    /// Endpoints ejected as outliers.
    ejections: Arc<AtomicU64>,
    pub(crate) retries: Arc<AtomicU64>,
    pub(crate) transparent_retries: Arc<AtomicU64>,
    /// Attempts made beside others that had not answered yet.
    pub(crate) hedges: Arc<AtomicU64>,
    /// Attempts with a fault put in on purpose.
    pub(crate) faults: Arc<AtomicU64>,
    /// Retries and hedges that the budget or the throttle forbade.
    pub(crate) retries_refused: Arc<AtomicU64>,
}

impl Series {
    fn new(service: &ServiceName) -> Self {
        let registry = Registry::global();
        let labels = || vec![("service", service.to_string())];
        Self {
            endpoints: registry.gauge("client_endpoints", labels()),
            endpoints_ready: registry.gauge("client_endpoints_ready", labels()),
            breakers_opened: registry.counter("client_breakers_opened_total", labels()),
            ejections: registry.counter("client_outlier_ejections_total", labels()),
            retries: registry.counter("client_retries_total", labels()),
            transparent_retries: registry.counter("client_transparent_retries_total", labels()),
            hedges: registry.counter("client_hedges_total", labels()),
            faults: registry.counter("client_faults_injected_total", labels()),
            retries_refused: registry.counter("client_retries_refused_total", labels()),
        }
    }

    /// Follows a new snapshot.
    fn publish(&self, snapshot: &Snapshot) {
        self.endpoints.store(snapshot.members.len() as i64, Relaxed);
        self.endpoints_ready.store(snapshot.connected as i64, Relaxed);
    }
}
