//! Keeps one instance announced, takes it out of rotation, and ends it.

use crate::{
    api::{Api, ApiError},
    watch::backoff,
};
use serde_json::json;
use sinew_core::{BoxFuture, RegisterError, Registered, Registration, Standing, chain};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
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
/// The same for the withdrawal of what the registry has never said that it took: likely it is away.
const UNHEARD: Duration = Duration::from_secs(1);

pub(crate) fn register(api: Arc<Api>, registration: &Registration) -> Box<dyn Registered> {
    let shared = Arc::new(Announced {
        api,
        id: registration.id.clone(),
        service: registration.service.to_string(),
        body: body(registration),
        draining: AtomicBool::new(false),
        standing: watch::Sender::default(),
    });
    let upkeep = tokio::spawn(upkeep(shared.clone())).abort_handle();
    Box::new(Handle { shared, upkeep: AbortOnDrop(upkeep) })
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
    standing: watch::Sender<Standing>,
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
    fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.shared.draining.store(true, Ordering::SeqCst);
            if self.shared.announced() && timeout(BOUND, self.shared.leave_rotation()).await.is_err() {
                tracing::warn!(id = self.shared.id, "the registry did not confirm the drain in time: going on without it");
            }
        })
    }

    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { shared, upkeep } = *self;
            // First, or it would announce us again.
            drop(upkeep);
            // Also without its word that it took us: that may have been lost, or be on its way.
            let announced = shared.announced();
            let bound = if announced { BOUND } else { UNHEARD };
            match timeout(bound, shared.api.deregister(&shared.id)).await {
                Ok(Ok(())) => tracing::info!(id = shared.id, "deregistered"),
                Ok(Err(error)) if announced => tracing::warn!(id = shared.id, %error, "not deregistered: its checks will tell"),
                Err(_) if announced => tracing::warn!(id = shared.id, "not deregistered in time: its checks will tell"),
                _ => tracing::info!(id = shared.id, "never registered"),
            }
        })
    }
}

impl Announced {
    /// Whether the registry has ever taken us.
    fn announced(&self) -> bool {
        self.standing.borrow().is_announced()
    }

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

    /// Says all that is to be said: everything at first, when we are forgotten, and now and then.
    async fn tell(&self, told: &mut Told) -> Result<(), ApiError> {
        let known = told.at.is_some() && self.api.knows(&self.id).await?;
        if known && told.at.is_some_and(|at| at.elapsed() < REFRESH) && told.lifted {
            return Ok(());
        }
        self.api.register(self.body.clone()).await?;
        let first = told.at.replace(Instant::now()).is_none();
        if !known && self.draining.load(Ordering::SeqCst) {
            self.api.maintenance(&self.id, true, DRAINING).await?;
        } else if !told.lifted {
            self.lift().await?;
            told.lifted = true;
        }
        if !known && !first {
            tracing::info!(id = self.id, "the registry had forgotten us: registered again");
        }
        Ok(())
    }

    /// Lifts a maintenance mode that our own earlier life left behind.
    async fn lift(&self) -> Result<(), ApiError> {
        let checks = self.api.agent_checks().await?;
        let ours = checks.get(&format!("_service_maintenance:{}", self.id)).is_some_and(|c| c.notes == DRAINING);
        if ours {
            self.api.maintenance(&self.id, false, "").await?;
        }
        Ok(())
    }

    /// The registry will not be asked again.
    fn refused(&self, reason: String) {
        let (registry, id) = (self.api.address().to_owned(), self.id.clone());
        self.standing.send_replace(Standing::Refused(RegisterError { registry, id, reason }));
    }

    /// Writes down how the latest attempt went.
    fn stands(&self, outcome: Result<(), &ApiError>, told: &Told) {
        let why = |error: &ApiError| {
            let how = if error.refuses() { "refuses the registration" } else { "cannot be reached" };
            format!("the registry at {} {how}: {}", self.api.address(), chain(error))
        };
        let new = match outcome {
            Ok(()) => Standing::Registered,
            Err(error) if told.at.is_some() => Standing::Stale(why(error)),
            Err(error) => Standing::Waiting(why(error)),
        };
        self.standing.send_if_modified(|standing| {
            let changed = *standing != new;
            *standing = new;
            changed
        });
    }

    /// One line for each change, however many attempts there are.
    fn say(&self, outcome: Result<(), &ApiError>, before: Mood, told: &Told) {
        let (service, id, registry) = (&self.service, &self.id, self.api.address());
        match outcome {
            Ok(()) if before == Mood::Untold || !self.announced() => tracing::info!(service, id, registry, "registered"),
            Ok(()) => tracing::info!(service, id, registry, "the registry answers again"),
            Err(error) => {
                let (refuses, error) = (error.refuses(), error as &dyn std::error::Error);
                if refuses {
                    tracing::error!(service, id, registry, error, "the registry refuses the registration: serving, and trying on");
                } else if told.at.is_some() {
                    tracing::warn!(service, id, registry, error, "the registration cannot be kept up: trying on");
                } else {
                    tracing::warn!(service, id, registry, error, "the registry cannot be reached: serving, and trying on");
                }
            }
        }
    }
}

/// What the registry has heard of us.
#[derive(Debug, Default)]
struct Told {
    /// When it last took everything.
    at: Option<Instant>,
    /// Whether a maintenance mode of an earlier life is gone.
    lifted: bool,
}

/// How the registry took what it was last told: a change is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Untold,
    Willing,
    Away,
    Refusing,
}

impl Mood {
    fn of(outcome: Result<(), &ApiError>) -> Self {
        match outcome {
            Ok(()) => Self::Willing,
            Err(error) if error.refuses() => Self::Refusing,
            Err(_) => Self::Away,
        }
    }
}

/// Announces, and keeps announced. Ends by itself when the first that is heard is a refusal, or when we leave unannounced.
async fn upkeep(me: Arc<Announced>) {
    // It becomes part of a path, where the layer below would encode anything else twice.
    if me.id.is_empty() || !me.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return me.refused("an id is made of letters, digits, '-', '_' and '.'".to_owned());
    }
    let (mut told, mut mood, mut failures) = (Told::default(), Mood::Untold, 0);
    loop {
        let answer = me.tell(&mut told).await;
        let outcome = answer.as_ref().copied();
        match (mood, Mood::of(outcome), outcome) {
            (Mood::Untold, Mood::Refusing, Err(error)) => return me.refused(error.words()),
            (before, now, _) if before != now => me.say(outcome, before, &told),
            _ => {}
        }
        mood = Mood::of(outcome);
        me.stands(outcome, &told);
        sleep(if outcome.is_ok() { UPKEEP } else { backoff(failures) }).await;
        failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
        if told.at.is_none() && me.draining.load(Ordering::SeqCst) {
            return;
        }
    }
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
