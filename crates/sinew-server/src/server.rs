//! A server from its first address to its last call.
//!
//! ```text
//!   listen ── serve ── ready? ── register ── shutdown ──► leave the registry ── settle ── GOAWAY, finish ── withdraw
//! ```
//!
//! The order of the end is the point: callers stop choosing us while we still answer, and only when nobody can arrive any
//! more is the door closed.

use crate::{Draining, Error, Limits, Listener, Readiness, Verifier, admin, draining, reflection, registration, serve, stack};
use http::Request;
use sinew_core::{Clock, Policies, Register, Registration, ServiceName, SystemClock};
use std::{collections::BTreeMap, convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, server::NamedService, service::RoutesBuilder};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Service;

/// Time for requests under way on the admin port when everything else has ended.
const ADMIN_END: Duration = Duration::from_secs(1);

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
    admin: RoutesBuilder,
    admin_names: Vec<String>,
    descriptors: Vec<&'static [u8]>,
    readiness: Readiness,
    meta: BTreeMap<String, String>,
}

impl Server {
    /// A server without services.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            services: RoutesBuilder::default(),
            names: Vec::new(),
            admin: RoutesBuilder::default(),
            admin_names: Vec::new(),
            descriptors: Vec::new(),
            readiness: Readiness::default(),
            meta: BTreeMap::new(),
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

    /// Another pair for the registry's Meta.
    pub fn meta(mut self, key: &str, value: &str) -> Self {
        self.meta.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The conditions under which it registers.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Listens on `address`, serves, and returns after the drain that `shutdown` begins.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on, or a registry that does not take us. Nothing stays half-started.
    pub async fn run(self, address: SocketAddr, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let listener = TcpListener::bind(address).await.map_err(|e| Error::Listen { address: address.to_string(), source: e })?;
        self.run_on(listener, shutdown).await
    }

    /// Like [`run`](Self::run), on a listener that is there already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes everything at once, without a drain.
    pub async fn run_on<L: Listener>(self, listener: L, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Self { config, services, names, admin, admin_names, descriptors, readiness, mut meta } = self;
        let address = listener.local_addr().map_err(|e| Error::Listen { address: "the given listener".into(), source: e })?;

        let draining = Draining::default();
        let (health, inner) = tonic_health::server::health_reporter();
        set_health(&health, &names, ServingStatus::NotServing).await;
        let routes = services.routes().add_service(draining::EndStreams { inner, draining: draining.clone() });
        let mut shown = names.clone();
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

        let stop_admin = CancellationToken::new();
        let mut admin_task = JoinSet::new();
        if let Some(address) = config.admin {
            let listener =
                TcpListener::bind(address).await.map_err(|e| Error::Listen { address: address.to_string(), source: e })?;
            let port = listener.local_addr().map_or(address.port(), |a| a.port());
            meta.insert("admin-port".into(), port.to_string());
            let routes = reflection::add(admin.routes(), &descriptors, &admin_names)?;
            admin_task.spawn(admin::serve(listener, routes, config.metrics.clone(), readiness.clone(), stop_admin.clone()));
            tracing::info!(port, "admin port");
        }

        // Serve before registering: the registry's first probe may come at once.
        let mut serving = JoinSet::new();
        let service = config.identity.service.to_string();
        serving.spawn(serve::serve(listener, stack, config.limits.clone(), draining.clone(), service));

        let mut shutdown = std::pin::pin!(shutdown);
        let ready = tokio::select! {
            biased;
            () = shutdown.as_mut() => false,
            () = readiness.ready() => true,
        };
        let mut registered = None;
        if ready {
            set_health(&health, &names, ServingStatus::Serving).await;
            if let Some(register) = &config.register {
                let registration = registration(&config.identity, address, &names, meta);
                let (service, port) = (&registration.service, registration.port);
                tracing::info!(%service, id = registration.id, port, "registering");
                // Never left halfway, whatever comes meanwhile: nobody would withdraw what the registry then holds.
                registered = Some(register.register(registration).await?);
            }
            shutdown.await;
        }

        tracing::info!("draining");
        if let Some(registered) = &registered {
            registered.drain().await;
            sleep(config.limits.settle).await;
        }
        set_health(&health, &names, ServingStatus::NotServing).await;
        draining.begin();
        while serving.join_next().await.is_some() {}
        if let Some(registered) = registered {
            registered.withdraw().await;
        }
        stop_admin.cancel();
        // Whoever scrapes us just now may finish, but nobody holds up the end.
        let _ = timeout(ADMIN_END, async { while admin_task.join_next().await.is_some() {} }).await;
        tracing::info!("ended");
        Ok(())
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

/// The whole server's health under the empty name, and each service's under its own.
async fn set_health(health: &HealthReporter, names: &[String], status: ServingStatus) {
    health.set_service_status("", status).await;
    for name in names {
        health.set_service_status(name, status).await;
    }
}

fn registration(identity: &Identity, address: SocketAddr, names: &[String], mut meta: BTreeMap<String, String>) -> Registration {
    meta.insert("version".into(), identity.version.clone());
    meta.extend(registration::grpc_services(names));
    Registration {
        service: identity.service.clone(),
        id: identity.instance.clone(),
        host: identity.advertise_host.clone().unwrap_or_else(|| address.ip().to_string()),
        port: identity.advertise_port.unwrap_or_else(|| address.port()),
        check: None,
        tags: Vec::new(),
        meta,
    }
}
