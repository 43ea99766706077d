//! Puts a mesh together: settings from outside, ports from the real world or from a test.

use crate::{Error, Mesh, Settings, mesh::Parts};
use sinew_client::{Client, Ports};
use sinew_consul::{ApiError, Consul};
use sinew_core::{Clock, Connector, Discover, Policies, Register, Rng, ServiceName, SharedRng, SystemClock, policy::ServicePolicy};
use sinew_server::{FileKeys, KeySource, Limits, TokenRules, Verifier};
use sinew_telemetry::Exporter;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Time for the registry to say who it is. An agent on this host needs milliseconds; nobody waits longer for one that is away.
const REGISTRY: Duration = Duration::from_millis(500);

/// A mesh being put together.
pub struct Builder {
    name: String,
    version: String,
    policies: Vec<ServicePolicy>,
    descriptors: Vec<&'static [u8]>,
    settings: Settings,
    consul: Option<sinew_consul::Settings>,
    discover: Option<Arc<dyn Discover>>,
    register: Option<Arc<dyn Register>>,
    connector: Option<Arc<dyn Connector>>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    client: sinew_client::Config,
    limits: Limits,
    keys: Option<Arc<dyn KeySource>>,
    rules: TokenRules,
    exporter: Option<Exporter>,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            policies: Vec::new(),
            descriptors: Vec::new(),
            settings: Settings::default(),
            consul: None,
            discover: None,
            register: None,
            connector: None,
            clock: Arc::new(SystemClock),
            rng: Arc::new(SharedRng::from_os()),
            client: sinew_client::Config::default(),
            limits: Limits::default(),
            keys: None,
            rules: TokenRules::default(),
            exporter: None,
        }
    }

    /// What is known of the methods that this process serves or calls; may be given several times.
    pub fn policies(mut self, policies: &[ServicePolicy]) -> Self {
        self.policies.extend_from_slice(policies);
        self
    }

    /// An encoded `FileDescriptorSet`, for reflection; may be given several times.
    pub fn descriptors(mut self, encoded: &'static [u8]) -> Self {
        self.descriptors.push(encoded);
        self
    }

    /// The program's version, into the registry; the mesh's own where nobody says.
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Reads [`Settings`], the registry's `CONSUL_*`, logging and tracing from the environment, and sets the last two up.
    ///
    /// # Errors
    ///
    /// The first variable that cannot be honoured.
    pub fn from_env(mut self) -> Result<Self, Error> {
        sinew_telemetry::init_logs()?;
        self.settings = Settings::from_env()?;
        self.consul = Some(sinew_consul::Settings::from_env()?);
        self.exporter = Exporter::from_env(&self.name, &self.settings.instance(&self.name))?;
        Ok(self)
    }

    /// Settings given by the program.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The registry, given by the program.
    pub fn consul(mut self, settings: sinew_consul::Settings) -> Self {
        self.consul = Some(settings);
        self
    }

    /// Another way to find services than the registry.
    pub fn discover(mut self, discover: Arc<dyn Discover>) -> Self {
        self.discover = Some(discover);
        self
    }

    /// Another place to register than the registry.
    pub fn register(mut self, register: Arc<dyn Register>) -> Self {
        self.register = Some(register);
        self
    }

    /// Another network.
    pub fn connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Another clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of randomness.
    pub fn rng(mut self, rng: Arc<dyn Rng>) -> Self {
        self.rng = rng;
        self
    }

    /// Settings of every channel.
    pub fn client(mut self, config: sinew_client::Config) -> Self {
        self.client = config;
        self
    }

    /// Bounds of the server.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where the keys that verify tokens come from; wins over `SINEW_JWKS`.
    pub fn keys(mut self, keys: Arc<dyn KeySource>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Which tokens are meant for us.
    pub fn token_rules(mut self, rules: TokenRules) -> Self {
        self.rules = rules;
        self
    }

    /// Checks everything. A registry that is away is waited for by whoever needs it: servers serve and register later, channels
    /// wait for their first endpoints.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, or a registry that refuses; nothing stays half-started.
    pub async fn start(self) -> Result<Mesh, Error> {
        let name = ServiceName::new(&self.name)?;
        let policies = Arc::new(Policies::resolve(&self.policies)?);
        let consul = match self.consul.filter(|_| self.discover.is_none() || self.register.is_none()) {
            Some(settings) => {
                let consul = Consul::new(settings)?;
                greet(&consul).await?;
                Some(consul)
            }
            None => None,
        };
        let discover = self.discover.or_else(|| consul.clone().map(|c| Arc::new(c) as Arc<dyn Discover>));
        let discover = discover.unwrap_or_else(|| Arc::new(sinew_core::FixedList::new()));
        let register = self.register.or_else(|| consul.clone().map(|c| Arc::new(c) as Arc<dyn Register>));

        let keys = self.keys.or_else(|| self.settings.jwks.clone().map(|path| Arc::new(FileKeys::new(path)) as Arc<dyn KeySource>));
        let verifier = keys.map(|source| Arc::new(Verifier::new(source, &self.rules)));
        if let (Some(verifier), Some(_)) = (&verifier, &self.settings.jwks) {
            // A file that is not there is a mistake in the settings; a service that is not there yet is none.
            verifier.refresh().await?;
        }

        let ports = Ports { discover, connector: self.connector, rng: self.rng.clone(), clock: self.clock.clone() };
        let mut limits = self.limits;
        if self.settings.adaptive_concurrency {
            limits.adaptive.get_or_insert_default();
        }
        let mut config = self.client;
        config.locality.zone = config.locality.zone.or_else(|| self.settings.zone.as_deref().map(Arc::from));
        config.faults = config.faults.or_else(|| self.settings.faults.clone().map(Arc::new));
        if let Some(faults) = &config.faults {
            tracing::warn!(?faults, "faults are put into this process's calls on purpose");
        }
        let client = Client::new(ports, config, policies.clone())?;
        tracing::info!(service = %name, settings = ?self.settings, "settings");
        Ok(Mesh::new(Parts {
            name,
            version: self.version,
            settings: self.settings,
            policies,
            descriptors: self.descriptors,
            client,
            consul,
            register,
            verifier,
            limits,
            clock: self.clock,
            rng: self.rng,
            exporter: self.exporter,
        }))
    }
}

/// Says who the registry is, or that it is away; only its no is an error.
async fn greet(consul: &Consul) -> Result<(), Error> {
    let registry = consul.address();
    let late = |_| ApiError::Unusable(format!("no answer within {REGISTRY:?}").into());
    match timeout(REGISTRY, consul.agent()).await.map_err(late).flatten() {
        Ok(agent) => tracing::info!(registry, version = agent.version, datacenter = agent.datacenter, "registry"),
        Err(source) if source.refuses() => return Err(Error::RegistryUnusable { address: registry.to_owned(), source }),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(registry, error, "the registry is away (CONSUL_HTTP_ADDR): going on without it until it is there");
        }
    }
    Ok(())
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).field("settings", &self.settings).finish_non_exhaustive()
    }
}
