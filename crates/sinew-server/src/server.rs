//! A server being put together: what it is, what it serves, and where.

use crate::{
    Draining, Error, Limits, Listener, Readiness, Verifier, draining,
    lifecycle::{Health, Lifecycle},
    reflection, serve, stack,
};
use http::Request;
use sinew_core::{Clock, Policies, Register, ServiceName, Standing, SystemClock};
use std::{collections::BTreeMap, convert::Infallible, fmt, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::watch};
use tonic::{body::Body, server::NamedService, service::RoutesBuilder};
use tonic_health::ServingStatus;
use tower::Service;

/// Who a server is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name in the registry.
    pub service: ServiceName,
    /// Id of this instance, stable over restarts of its slot.
    pub instance: String,
    /// Version of the program, into the registry's Meta.
    pub version: String,
    /// Host that others reach it by; the listen address's where `None`.
    pub advertise_host: Option<String>,
    /// Port that others reach it by; the listen address's where `None`.
    pub advertise_port: Option<u16>,
}

/// What a server needs from around it.
#[derive(Clone)]
pub struct Config {
    /// Who it is.
    pub identity: Identity,
    /// Its bounds.
    pub limits: Limits,
    /// What is known of its methods: who may call them.
    pub policies: Arc<Policies>,
    /// Verifies bearer tokens; without it every token is refused.
    pub verifier: Option<Arc<Verifier>>,
    /// Where it makes itself known; nowhere where `None`.
    pub register: Option<Arc<dyn Register>>,
    /// Where the admin port listens; no admin port where `None`.
    pub admin: Option<SocketAddr>,
    /// Writes all metrics in Prometheus's text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// A server that is known to nobody: for tests.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            limits: Limits::default(),
            policies: Arc::default(),
            verifier: None,
            register: None,
            admin: None,
            metrics: Arc::new(String::new),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A server being put together.
pub struct Server {
    config: Config,
    services: RoutesBuilder,
    names: Vec<String>,
    /// Services that others serve too.
    shared: Vec<String>,
    admin: RoutesBuilder,
    admin_names: Vec<String>,
    descriptors: Vec<&'static [u8]>,
    readiness: Readiness,
    meta: BTreeMap<String, String>,
    standing: watch::Sender<Standing>,
}

impl Server {
    /// A server without services.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            services: RoutesBuilder::default(),
            names: Vec::new(),
            shared: Vec::new(),
            admin: RoutesBuilder::default(),
            admin_names: Vec::new(),
            descriptors: Vec::new(),
            readiness: Readiness::default(),
            meta: BTreeMap::new(),
            standing: watch::Sender::default(),
        }
    }

    /// Serves a generated service on the mesh port.
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.services.add_service(service);
        self.names.push(S::NAME.to_owned());
        self
    }

    /// Serves a generated service that many serve, each for itself: on the mesh port, but not among the gRPC services that
    /// the registry says are this one's alone.
    pub fn add_shared_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.services.add_service(service);
        self.shared.push(S::NAME.to_owned());
        self
    }

    /// Serves a generated service on the admin port only.
    pub fn add_admin_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.admin.add_service(service);
        self.admin_names.push(S::NAME.to_owned());
        self
    }

    /// An encoded `FileDescriptorSet` for reflection; services whose set is missing are not described.
    pub fn descriptors(mut self, encoded: &'static [u8]) -> Self {
        self.descriptors.push(encoded);
        self
    }

    /// Verifies tokens with these keys instead of those of the config.
    pub fn verifier(mut self, verifier: Arc<Verifier>) -> Self {
        self.config.verifier = Some(verifier);
        self
    }

    /// Another pair for the registry's Meta.
    pub fn meta(mut self, key: &str, value: &str) -> Self {
        self.meta.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The conditions under which it registers.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// How it will stand with the registry, to be followed while it runs: `wait_for(|s| *s == Standing::Registered)` returns when
    /// others can find it, or fails when the server has ended without.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Listens on `address`, serves, and returns after the drain that `shutdown` begins.
    ///
    /// # Errors
    ///
    /// A bound that cannot be honoured, an address that cannot be listened on, or a registry that refuses us. Nothing stays
    /// half-started. A registry that is away is none: we serve without it, and register when it is there.
    pub async fn run(self, address: SocketAddr, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        self.config.limits.check()?;
        let listener = TcpListener::bind(address).await.map_err(|e| Error::Listen { address: address.to_string(), source: e })?;
        self.run_on(listener, shutdown).await
    }

    /// Like [`run`](Self::run), on a listener that is there already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes everything at once, without a drain.
    pub async fn run_on<L: Listener>(self, listener: L, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Self { config, services, names, shared, admin, admin_names, descriptors, readiness, meta, standing } = self;
        config.limits.check()?;
        let address = listener.local_addr().map_err(|e| Error::Listen { address: "the given listener".into(), source: e })?;

        let draining = Draining::default();
        let (reporter, inner) = tonic_health::server::health_reporter();
        let mut shown: Vec<_> = names.iter().chain(&shared).cloned().collect();
        let health = Health { reporter: Some(reporter), names: shown.clone() };
        health.set(ServingStatus::NotServing).await;
        let routes = services.routes().add_service(draining::EndStreams { inner, draining: draining.clone() });
        shown.push("grpc.health.v1.Health".into());
        let routes = reflection::add(routes, &descriptors, &shown)?.prepare();
        let stack = stack::stack(
            &config.identity.service,
            &config.policies,
            config.verifier.clone(),
            &config.limits,
            config.clock.clone(),
            routes,
        );
        let service = config.identity.service.to_string();
        let serving = serve::serve(listener, stack, config.limits.clone(), draining.clone(), service);
        let lifecycle = Lifecycle { config, names, admin, admin_names, descriptors, readiness, meta, standing };
        lifecycle.run(address, health, draining, serving, shutdown).await
    }

    /// Like [`run_on`](Self::run_on) for what is no set of gRPC services: `edge` listens at `address` itself, answers the
    /// registry's probes itself, and returns some time after [`Draining`] has begun. What was added as a service on the
    /// mesh port is not served.
    ///
    /// # Cancel safety
    ///
    /// As [`run_on`](Self::run_on).
    pub async fn run_edge<E>(
        self,
        address: SocketAddr,
        edge: impl FnOnce(Draining) -> E,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error>
    where
        E: Future<Output = ()> + Send + 'static,
    {
        let Self { config, admin, admin_names, descriptors, readiness, meta, standing, .. } = self;
        config.limits.check()?;
        let draining = Draining::default();
        let serving = edge(draining.clone());
        let lifecycle = Lifecycle { config, names: Vec::new(), admin, admin_names, descriptors, readiness, meta, standing };
        lifecycle.run(address, Health::default(), draining, serving, shutdown).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("identity", &self.config.identity).field("services", &self.names).finish_non_exhaustive()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("identity", &self.identity)
            .field("limits", &self.limits)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}
