//! Keeps one instance announced, takes it out of rotation, and ends it.

use crate::{
    api::{Api, ApiError},
    watch::backoff,
};
use serde_json::json;
use sinew_core::{BoxFuture, RegisterError, Registered, Registration};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

/// The reason that marks a maintenance mode as ours; any other is an operator's and stays.
const DRAINING: &str = "sinew: draining";
/// How often the agent is asked whether it still knows us: one small loopback GET. A restarted `-dev` agent has forgotten.
const UPKEEP: Duration = Duration::from_secs(1);
/// How often we say everything again though the agent knows us; an identical body wakes nobody.
const REFRESH: Duration = Duration::from_secs(60);
/// A drain or withdrawal never hangs on the registry for longer.
const BOUND: Duration = Duration::from_secs(3);

pub(crate) async fn register(api: Arc<Api>, registration: Registration) -> Result<Box<dyn Registered>, RegisterError> {
    let id = registration.id.clone();
    let refused = |reason: String| RegisterError::Refused { registry: api.address().to_owned(), id: id.clone(), reason };
    // It becomes part of a path, where the layer below would encode anything else twice.
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(refused("an id is made of letters, digits, '-', '_' and '.'".to_owned()));
    }
    let body = body(&registration);
    announce(&api, &id, &body).await.map_err(|error| match error {
        ApiError::Answered { code: 400..=499, message } => refused(message),
        other => RegisterError::Unreachable { registry: api.address().to_owned(), source: Box::new(other) },
    })?;
    tracing::info!(service = %registration.service, %id, registry = api.address(), "registered");
    let shared = Arc::new(Announced { api, id, service: registration.service.to_string(), body, draining: AtomicBool::new(false) });
    let upkeep = tokio::spawn(upkeep(shared.clone())).abort_handle();
    Ok(Box::new(Handle { shared, upkeep: AbortOnDrop(upkeep) }))
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Announced {
    api: Arc<Api>,
    id: String,
    service: String,
    body: Vec<u8>,
    draining: AtomicBool,
}

struct Handle {
    shared: Arc<Announced>,
    upkeep: AbortOnDrop,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("id", &self.shared.id).finish_non_exhaustive()
    }
}

impl Registered for Handle {
    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.shared.draining.store(true, Ordering::SeqCst);
            if timeout(BOUND, self.shared.leave_rotation()).await.is_err() {
                tracing::warn!(id = self.shared.id, "the registry did not confirm the drain in time: going on without it");
            }
        })
    }

    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { shared, upkeep } = *self;
            // First, or it would announce us again.
            drop(upkeep);
            match timeout(BOUND, shared.api.deregister(&shared.id)).await {
                Ok(Ok(())) => tracing::info!(id = shared.id, "deregistered"),
                Ok(Err(error)) => tracing::warn!(id = shared.id, %error, "not deregistered: its checks will tell"),
                Err(_) => tracing::warn!(id = shared.id, "not deregistered in time: its checks will tell"),
            }
        })
    }
}

impl Announced {
    async fn leave_rotation(&self) {
        let mut failures = 0;
        while let Err(error) = self.api.maintenance(&self.id, true, DRAINING).await {
            tracing::debug!(id = self.id, %error, "maintenance mode not set yet");
            sleep(backoff(failures)).await;
            failures += 1;
        }
        let mut index = 0;
        loop {
            match self.api.health(&self.service, index, Duration::from_secs(1), true).await {
                Ok((entries, _)) if entries.iter().all(|e| e.service.id != self.id) => return,
                Ok((_, next)) => index = next.max(1),
                Err(_) => {
                    index = 0;
                    sleep(backoff(0)).await;
                }
            }
        }
    }
}

async fn upkeep(me: Arc<Announced>) {
    let mut failures = 0;
    let mut told = Instant::now();
    loop {
        sleep(if failures == 0 { UPKEEP } else { backoff(failures) }).await;
        let outcome = async {
            let known = me.api.knows(&me.id).await?;
            if !known || told.elapsed() >= REFRESH {
                me.api.register(me.body.clone()).await?;
                told = Instant::now();
            }
            if !known {
                tracing::info!(id = me.id, "the registry had forgotten us: registered again");
                if me.draining.load(Ordering::SeqCst) {
                    me.api.maintenance(&me.id, true, DRAINING).await?;
                }
            }
            Ok::<_, ApiError>(())
        };
        match outcome.await {
            Ok(()) if failures > 0 => {
                tracing::info!(id = me.id, registry = me.api.address(), "the registry answers again");
                failures = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(
                        id = me.id,
                        registry = me.api.address(),
                        error = &error as &dyn std::error::Error,
                        "the registration cannot be kept up: trying on"
                    );
                }
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// Registers, then lifts a maintenance mode that our own earlier life left behind.
async fn announce(api: &Api, id: &str, body: &[u8]) -> Result<(), ApiError> {
    api.register(body.to_vec()).await?;
    let ours = api.agent_checks().await?.get(&format!("_service_maintenance:{id}")).is_some_and(|c| c.notes == DRAINING);
    if ours {
        api.maintenance(id, false, "").await?;
    }
    Ok(())
}

fn body(r: &Registration) -> Vec<u8> {
    let host = if r.host.contains(':') { format!("[{}]", r.host) } else { r.host.clone() };
    let check = r.check.map_or_else(|| format!("{host}:{}", r.port), |a| a.to_string());
    // Passing from the start: the process checked itself, and Consul's first probe comes up to 10 s later.
    // One minute is the shortest Consul allows before it forgets a dead instance; a paused one is told again.
    json!({
        "ID": r.id, "Name": r.service.as_str(), "Address": r.host, "Port": r.port, "Tags": r.tags, "Meta": r.meta,
        "Checks": [{
            "CheckID": format!("{}:grpc", r.id), "Name": "grpc.health.v1", "GRPC": check, "GRPCUseTLS": false,
            "Interval": "10s", "Timeout": "5s", "Status": "passing", "DeregisterCriticalServiceAfter": "1m",
        }],
    })
    .to_string()
    .into_bytes()
}
