//! Puts a gateway together and runs it.

use crate::{
    backend::Backend,
    catalogue::Catalogue,
    client_addr::Cidr,
    edge::{Edge, Inner},
    error::BuildError,
    headers,
    keys::{JWKS_PATH, PublishedKeys},
    limits::Limits,
    rate::{Classes, LoadKey, MemoryRates, RateStore, RateUrl, Rates, RedisRates},
    reflection::Own,
    routes::{self, Found, Routes},
    serve,
    settings::GatewaySettings,
    stack,
    transcode::{Json, Transcode},
};
use http::{HeaderName, HeaderValue, Method};
use sinew::{Readiness, TokenRules, Verifier};
use sinew_core::{Access, Clock, Policies, SystemClock};
use std::sync::Arc;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;

/// A gateway being put together.
#[derive(Debug)]
pub struct Builder {
    policies: Arc<Policies>,
    backend: Arc<dyn Backend>,
    descriptors: Vec<&'static [u8]>,
    verifier: Option<Arc<Verifier>>,
    rules: TokenRules,
    limits: Limits,
    classes: Classes,
    load_key: Option<LoadKey>,
    rates: Option<Arc<dyn RateStore>>,
    rate_url: Option<RateUrl>,
    proxies: Vec<Cidr>,
    origins: Vec<HeaderValue>,
    forward: Vec<HeaderName>,
    readiness: Readiness,
    clock: Arc<dyn Clock>,
}

/// The HTTP edge: REST and gRPC on one port, for what contracts do not mark INTERNAL.
#[derive(Debug)]
pub struct Gateway {
    edge: Arc<Inner>,
    origins: Vec<HeaderValue>,
}

impl Gateway {
    /// A gateway for what `policies` know, which calls services through `backend`.
    pub fn builder(policies: Arc<Policies>, backend: impl Backend) -> Builder {
        let settings = GatewaySettings::default();
        Builder {
            policies,
            backend: Arc::new(backend),
            descriptors: Vec::new(),
            verifier: None,
            rules: TokenRules::default(),
            limits: Limits::default(),
            classes: settings.classes,
            load_key: settings.load_key,
            rates: None,
            rate_url: None,
            proxies: settings.proxies,
            origins: settings.origins,
            forward: Vec::new(),
            readiness: Readiness::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Serves until `shutdown`, then stops accepting and returns when calls under way have finished, or after
    /// [`Limits::drain`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends every connection at once.
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let (draining, limits, health) = (CancellationToken::new(), self.edge.limits.clone(), self.edge.own.health.clone());
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, limits = ?limits, rates = ?self.edge.rates.classes, "the gateway listens");
        }
        let stack = stack::build(Edge(self.edge), &self.origins);
        let stop = async {
            shutdown.await;
            health.set_service_status("", ServingStatus::NotServing).await;
            draining.cancel();
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = stop => {}
            () = serve::serve(listener, stack, &limits, draining.clone()) => {}
        }
    }
}

impl Builder {
    /// An encoded `FileDescriptorSet` with its imports, options included; may be given several times.
    pub fn descriptors(mut self, encoded: &'static [u8]) -> Self {
        self.descriptors.push(encoded);
        self
    }

    /// What verifies tokens. Without it keys come from the PUBLIC rpc that is annotated with
    /// `GET /.well-known/jwks.json`.
    pub fn verifier(mut self, verifier: Arc<Verifier>) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// Which tokens are meant for us; for keys that come from an rpc.
    pub fn token_rules(mut self, rules: TokenRules) -> Self {
        self.rules = rules;
        self
    }

    /// Every bound.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What the environment said. Sets proxies, origins, quotas and the body's bound; who listens reads the address.
    pub fn settings(mut self, settings: &GatewaySettings) -> Self {
        self.proxies.clone_from(&settings.proxies);
        self.origins.clone_from(&settings.origins);
        self.classes = settings.classes;
        self.load_key.clone_from(&settings.load_key);
        self.rate_url.clone_from(&settings.rate_url);
        self.limits.body_bytes = settings.body_bytes;
        self
    }

    /// Another place to keep rate limits than this process.
    pub fn rate_store(mut self, store: Arc<dyn RateStore>) -> Self {
        self.rates = Some(store);
        self
    }

    /// A header of clients that services may see, beside the few that always pass. Anything a service believes without
    /// checking does not belong here; what the mesh itself would believe (`sinew-…`, `grpc-…`), what is one connection's
    /// (`connection`, `te`, …) and what the gateway writes is refused by [`build`](Self::build).
    pub fn forward_header(mut self, name: HeaderName) -> Self {
        self.forward.push(name);
        self
    }

    /// The conditions of `/readyz`.
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// Another clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Compiles everything that the contracts say.
    ///
    /// # Errors
    ///
    /// The first contract that is wrong, a header that must not be forwarded, or no way to verify tokens though there are methods that need one.
    pub fn build(self) -> Result<Gateway, BuildError> {
        if self.descriptors.is_empty() {
            return Err(BuildError::Missing("descriptors"));
        }
        if let Some((name, reason)) = self.forward.iter().find_map(|name| Some((name.clone(), headers::not_forwarded(name)?))) {
            return Err(BuildError::Forward { name, reason });
        }
        let catalogue = Catalogue::build(&self.policies, &self.descriptors)?;
        let routes = routes::compile(&catalogue)?;
        let own = Own::build(&catalogue, &self.descriptors)?;
        let transcode: Arc<dyn Transcode> = Arc::new(Json::new(self.limits.json_depth));
        let verifier = match self.verifier {
            Some(verifier) => verifier,
            None => {
                let limit = self.limits.answer_bytes;
                let source = published(&routes, &catalogue, limit, self.backend.clone(), transcode.clone())?;
                Arc::new(Verifier::new(Arc::new(source), &self.rules))
            }
        };
        let keys = self.limits.rate_keys;
        let store: Arc<dyn RateStore> = match (self.rates, self.rate_url) {
            (Some(store), _) => store,
            (None, Some(url)) => Arc::new(RedisRates::open(&url, keys)?),
            (None, None) => Arc::new(MemoryRates::new(keys)),
        };
        let edge = Inner {
            catalogue,
            routes,
            transcode,
            backend: self.backend,
            verifier,
            rates: Rates { classes: self.classes, load_key: self.load_key, store },
            proxies: self.proxies,
            forward: self.forward,
            calls: Arc::new(Semaphore::new(self.limits.calls.min(Semaphore::MAX_PERMITS))),
            limits: self.limits,
            own,
            readiness: self.readiness,
            clock: self.clock,
        };
        Ok(Gateway { edge: Arc::new(edge), origins: self.origins })
    }
}

/// The rpc that publishes keys.
fn published(
    routes: &Routes,
    catalogue: &Catalogue,
    limit: usize,
    backend: Arc<dyn Backend>,
    transcode: Arc<dyn Transcode>,
) -> Result<PublishedKeys, BuildError> {
    let segments: Vec<_> = JWKS_PATH.trim_start_matches('/').split('/').collect();
    match routes.find(&Method::GET, &segments) {
        Found::Route { value, .. } if value.method.access == Access::Public && value.variables.is_empty() => {
            Ok(PublishedKeys { binding: value.clone(), backend, transcode, limit })
        }
        _ => {
            let method = catalogue.iter().find(|m| m.access != Access::Public).map(|m| m.path.to_string());
            Err(BuildError::NoKeys { method: method.unwrap_or_else(|| "every token".into()) })
        }
    }
}
