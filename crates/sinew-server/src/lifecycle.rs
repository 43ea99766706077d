//! A server from its first address to its last call, whatever it serves.
//!
//! ```text
//!   listen ── serve ── ready? ── register ── shutdown ──► leave the registry ── settle ── GOAWAY, finish ── withdraw
//! ```
//!
//! The order of the end is the point: callers stop choosing us while we still answer, and only when nobody can arrive any
//! more is the door closed.

use crate::{Draining, Error, Readiness, admin, reflection, registration, server::Config};
use sinew_core::Registration;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::{
    net::TcpListener,
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
        let Self { config, names, admin, admin_names, descriptors, readiness, mut meta } = self;
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
        let mut serve_task = JoinSet::new();
        serve_task.spawn(serving);

        let mut shutdown = std::pin::pin!(shutdown);
        let ready = tokio::select! {
            biased;
            () = shutdown.as_mut() => false,
            () = readiness.ready() => true,
        };
        let mut registered = None;
        if ready {
            health.set(ServingStatus::Serving).await;
            if let Some(register) = &config.register {
                let registration = describe(&config, address, &names, meta);
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
        health.set(ServingStatus::NotServing).await;
        draining.begin();
        while serve_task.join_next().await.is_some() {}
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
