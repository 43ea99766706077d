//! A process's place in the mesh: channels to others, and a server of its own.

use crate::{Builder, Error, Settings};
use http::Request;
use sinew_client::{Channel, Client, DestinationStatus};
use sinew_consul::Consul;
use sinew_core::{Clock, Policies, Register, Rng, ServiceName, Standing};
use sinew_server::{Config, Draining, Identity, Limits, Listener, Readiness, Server, Verifier};
use sinew_telemetry::Exporter;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;
use tonic::{body::Body, server::NamedService};
use tower_service::Service;

/// A process's place in the mesh. Cheap to clone; the last clone ends what runs behind it.
#[derive(Debug, Clone)]
pub struct Mesh {
    parts: Arc<Shared>,
}

pub(crate) struct Parts {
    pub name: ServiceName,
    pub version: String,
    pub settings: Settings,
    pub policies: Arc<Policies>,
    pub descriptors: Vec<&'static [u8]>,
    pub client: Client,
    pub consul: Option<Consul>,
    pub register: Option<Arc<dyn Register>>,
    pub verifier: Option<Arc<Verifier>>,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub exporter: Option<Exporter>,
}

struct Shared {
    parts: Parts,
    exporter: Mutex<Option<Exporter>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("name", &self.parts.name).field("settings", &self.parts.settings).finish_non_exhaustive()
    }
}

impl Mesh {
    /// Begins a mesh for the service of this name.
    pub fn builder(service: &str) -> Builder {
        Builder::new(service)
    }

    pub(crate) fn new(mut parts: Parts) -> Self {
        let exporter = Mutex::new(parts.exporter.take());
        Self { parts: Arc::new(Shared { parts, exporter }) }
    }

    /// A channel to a service, for any generated client. It need not be there yet.
    ///
    /// # Panics
    ///
    /// If `service` is no [`ServiceName`]: names are written in the program, so this is found at its first start. Use
    /// [`channel_to`](Self::channel_to) for names that come from elsewhere.
    #[expect(clippy::expect_used, reason = "documented: a name in the program text")]
    pub fn channel(&self, service: &str) -> Channel {
        self.channel_to(&ServiceName::new(service).expect("a service name in the program text"))
    }

    /// A channel to a service whose name was checked.
    pub fn channel_to(&self, service: &ServiceName) -> Channel {
        self.parts.parts.client.channel(service)
    }

    /// A server that registers, serves and drains. It has the descriptors and policies that the mesh was given.
    pub fn server(&self) -> MeshServer {
        let parts = &self.parts.parts;
        let identity = Identity {
            service: parts.name.clone(),
            instance: self.instance(),
            version: parts.version.clone(),
            advertise_host: parts.settings.advertise_host.clone(),
            advertise_port: parts.settings.advertise_port,
        };
        let config = Config {
            identity,
            limits: parts.limits.clone(),
            policies: parts.policies.clone(),
            verifier: parts.verifier.clone(),
            register: parts.register.clone(),
            admin: Some(parts.settings.admin),
            metrics: Arc::new(sinew_telemetry::metrics_text),
            clock: parts.clock.clone(),
        };
        let mut server = parts.descriptors.iter().fold(Server::new(config), |server, encoded| server.descriptors(encoded));
        if let Some(zone) = &parts.settings.zone {
            server = server.meta("zone", zone);
        }
        if parts.settings.priority > 0 {
            server = server.meta("priority", &parts.settings.priority.to_string());
        }
        MeshServer { server, mesh: self.clone() }
    }

    /// The service's own name.
    pub fn name(&self) -> &ServiceName {
        &self.parts.parts.name
    }

    /// The id of this instance.
    pub fn instance(&self) -> String {
        self.parts.parts.settings.instance(self.name().as_str())
    }

    /// The settings it was started with.
    pub fn settings(&self) -> &Settings {
        &self.parts.parts.settings
    }

    /// What is known of methods.
    pub fn policies(&self) -> &Arc<Policies> {
        &self.parts.parts.policies
    }

    /// Verifies bearer tokens, where keys were given.
    pub fn verifier(&self) -> Option<&Arc<Verifier>> {
        self.parts.parts.verifier.as_ref()
    }

    /// The registry, unless ports were given in its place.
    pub fn consul(&self) -> Option<&Consul> {
        self.parts.parts.consul.as_ref()
    }

    /// The wall clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.parts.parts.clock
    }

    /// The source of randomness; not for secrets.
    pub fn rng(&self) -> &Arc<dyn Rng> {
        &self.parts.parts.rng
    }

    /// Every service that was called, with what is known of its endpoints.
    pub fn destinations(&self) -> Vec<DestinationStatus> {
        self.parts.parts.client.describe()
    }

    /// Sends the last spans; for the end of a process. A server's run does it by itself.
    pub async fn flush(&self) {
        let exporter = self.parts.exporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(exporter) = exporter {
            exporter.flush().await;
        }
    }
}

/// A server of the mesh being put together.
#[derive(Debug)]
pub struct MeshServer {
    server: Server,
    mesh: Mesh,
}

impl MeshServer {
    /// Serves a generated service on the mesh port.
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: sinew_server::IntoResponse,
        S::Future: Send + 'static,
    {
        self.server = self.server.add_service(service);
        self
    }

    /// Serves a generated service that many serve, each for itself, as every publisher serves its own events: on the mesh
    /// port, but not among the gRPC services that the registry says are this one's alone.
    pub fn add_shared_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: sinew_server::IntoResponse,
        S::Future: Send + 'static,
    {
        self.server = self.server.add_shared_service(service);
        self
    }

    /// Serves a generated service on the admin port only.
    pub fn add_admin_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: sinew_server::IntoResponse,
        S::Future: Send + 'static,
    {
        self.server = self.server.add_admin_service(service);
        self
    }

    /// Verifies tokens with these keys instead of the mesh's.
    pub fn verifier(mut self, verifier: Arc<Verifier>) -> Self {
        self.server = self.server.verifier(verifier);
        self
    }

    /// Another pair for the registry's Meta.
    pub fn meta(mut self, key: &str, value: &str) -> Self {
        self.server = self.server.meta(key, value);
        self
    }

    /// The conditions under which it registers.
    pub fn readiness(&self) -> &Readiness {
        self.server.readiness()
    }

    /// How it will stand with the registry, to be followed while it runs: `wait_for(|s| *s == Standing::Registered)` returns when
    /// others can find it, or fails when the server has ended without.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.server.standing()
    }

    /// Listens, serves, registers as soon as the registry is there, and returns after the drain that `shutdown` begins.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on, or a registry that refuses us.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let address = self.mesh.settings().listen;
        self.server.run(address, shutdown).await?;
        self.mesh.flush().await;
        Ok(())
    }

    /// Like [`run`](Self::run), on a listener that is there already.
    ///
    /// # Errors
    ///
    /// A registry that does not take us.
    pub async fn run_on<L: Listener>(self, listener: L, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        self.server.run_on(listener, shutdown).await?;
        self.mesh.flush().await;
        Ok(())
    }

    /// Registers and drains something else than gRPC services: `edge` listens at `address` itself, answers
    /// `grpc.health.v1` itself, and returns some time after [`Draining`] has begun.
    ///
    /// # Errors
    ///
    /// An admin address that cannot be listened on, or a registry that refuses us.
    pub async fn run_edge<E>(
        self,
        address: SocketAddr,
        edge: impl FnOnce(Draining) -> E,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error>
    where
        E: Future<Output = ()> + Send + 'static,
    {
        self.server.run_edge(address, edge, shutdown).await?;
        self.mesh.flush().await;
        Ok(())
    }
}
