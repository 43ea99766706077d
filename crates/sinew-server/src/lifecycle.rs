//! A server from its first address to its last call, whatever it serves.
//!
//! ```text
//!   listen ── serve ── ready? ── announce ── shutdown ──► leave the registry ── settle ── GOAWAY, finish ── withdraw
//! ```
//!
//! Announcing goes on beside the serving: a registry that is away holds up nobody who knows us already.
//!
//! The order of the end is the point: callers stop choosing us while we still answer, and only when nobody can arrive any
//! more is the door closed.

use crate::{Draining, Error, Readiness, admin, reflection, registration, server::Config};
use sinew_core::{RegisterError, Registration, ServiceName, Standing, stats::Registry};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Time for requests under way on the admin port when everything else has ended.
const ADMIN_END: Duration = Duration::from_secs(1);

/// What there is beside the serving itself.
pub(crate) struct Lifecycle {
    pub(crate) config: Config,
    /// The gRPC services that are served, for the registry.
    pub(crate) names: Vec<String>,
    /// What is served on the admin port.
    pub(crate) admin: RoutesBuilder,
    pub(crate) admin_names: Vec<String>,
    pub(crate) descriptors: Vec<&'static [u8]>,
    pub(crate) readiness: Readiness,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) standing: watch::Sender<Standing>,
}

/// What the registry's probe is told; nothing where whoever serves answers probes by itself.
#[derive(Default)]
pub(crate) struct Health {
    pub(crate) reporter: Option<HealthReporter>,
    pub(crate) names: Vec<String>,
}

impl Health {
    /// The whole server's health under the empty name, and each service's under its own.
    pub(crate) async fn set(&self, status: ServingStatus) {
        let Some(reporter) = &self.reporter else { return };
        reporter.set_service_status("", status).await;
        for name in &self.names {
            reporter.set_service_status(name, status).await;
        }
    }
}

impl Lifecycle {
    /// Runs `serving`, which ends some time after `draining` has begun, at this address, and returns after the drain that
    /// `shutdown` begins.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes everything at once, without a drain.
    pub(crate) async fn run(
        self,
        address: SocketAddr,
        health: Health,
        draining: Draining,
        serving: impl Future<Output = ()> + Send + 'static,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let Self { config, names, admin, admin_names, descriptors, readiness, mut meta, standing } = self;
        let stop_admin = CancellationToken::new();
        let mut admin_task = JoinSet::new();
        if let Some(address) = config.admin {
            let listener =
                TcpListener::bind(address).await.map_err(|e| Error::Listen { address: address.to_string(), source: e })?;
            let port = listener.local_addr().map_or(address.port(), |a| a.port());
            meta.insert("admin-port".into(), port.to_string());
            let routes = reflection::add(admin.routes(), &descriptors, &admin_names)?;
            let known = config.register.as_ref().map(|_| standing.subscribe());
            let ready = admin::Ready { readiness: readiness.clone(), known };
            admin_task.spawn(admin::serve(listener, routes, config.metrics.clone(), ready, stop_admin.clone()));
            tracing::info!(port, "admin port");
        }

        // Serve before registering: the registry's first probe may come at once.
        let mut serve_task = JoinSet::new();
        serve_task.spawn(serving);

        let mut shutdown = std::pin::pin!(shutdown);
        let ready = tokio::select! {
            biased;
            () = shutdown.as_mut() => false,
            () = readiness.ready() => true,
        };
        let mut announced = None;
        if ready {
            health.set(ServingStatus::Serving).await;
            match &config.register {
                Some(register) => {
                    let registration = describe(&config, address, &names, meta);
                    let (service, port) = (&registration.service, registration.port);
                    tracing::info!(%service, id = registration.id, port, "registering");
                    let heard = announced.insert(register.register(registration)).standing();
                    let refusal = tokio::select! {
                        biased;
                        () = shutdown => None,
                        refusal = refusal(heard, &standing, &config.identity.service) => Some(refusal),
                    };
                    if let Some(refusal) = refusal {
                        if let Some(announced) = announced {
                            announced.withdraw().await;
                        }
                        return Err(refusal.into());
                    }
                }
                None => shutdown.await,
            }
        }

        tracing::info!("draining");
        if let Some(registered) = &announced {
            registered.drain().await;
            if registered.standing().borrow().is_announced() {
                sleep(config.limits.settle).await;
            }
        }
        health.set(ServingStatus::NotServing).await;
        draining.begin();
        while serve_task.join_next().await.is_some() {}
        if let Some(registered) = announced {
            registered.withdraw().await;
        }
        stop_admin.cancel();
        // Whoever scrapes us just now may finish, but nobody holds up the end.
        let _ = timeout(ADMIN_END, async { while admin_task.join_next().await.is_some() {} }).await;
        tracing::info!("ended");
        Ok(())
    }
}

/// Shows how we stand with the registry as it changes, and returns when that will not have us at all.
async fn refusal(mut heard: watch::Receiver<Standing>, shown: &watch::Sender<Standing>, service: &ServiceName) -> RegisterError {
    let gauge = RegisteredGauge(Registry::global().gauge("server_registered", vec![("service", service.to_string())]));
    loop {
        let standing = heard.borrow_and_update().clone();
        gauge.0.store((standing == Standing::Registered).into(), Relaxed);
        shown.send_replace(standing.clone());
        if let Standing::Refused(refusal) = standing {
            return refusal;
        }
        if heard.changed().await.is_err() {
            // Nobody announces us any more, and nobody has refused.
            return std::future::pending().await;
        }
    }
}

/// 1 while the registry has us by its last answer. One that leaves is out of rotation.
struct RegisteredGauge(Arc<AtomicI64>);

impl Drop for RegisteredGauge {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}

fn describe(config: &Config, address: SocketAddr, names: &[String], mut meta: BTreeMap<String, String>) -> Registration {
    let identity = &config.identity;
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
