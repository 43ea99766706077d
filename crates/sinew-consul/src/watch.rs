//! Follows one service: blocked queries, last good endpoints through every fault, doubt before an empty list.

use crate::{
    answer::HealthEntry,
    api::{Api, ApiError, WAIT},
};
use rand::Rng;
use sinew_core::{ServiceName, Snapshot, State};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch::Sender,
    time::{Instant, sleep},
};

/// First and longest pause between failing queries; each is drawn from its upper half.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause after each answer, so that a storm of changes costs 20 full lists a second at most.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// An empty list after a full one is asked again after this long: longer than a rolling restart's gap in one agent.
const GRACE: Duration = Duration::from_secs(2);
/// After an index that went backwards (servers that lost their data) agents need up to their anti-entropy interval,
/// a minute, to say again what they run.
const GRACE_AFTER_LOSS: Duration = Duration::from_secs(70);

/// Runs until dropped or until the last receiver is.
pub(crate) async fn follow(api: Arc<Api>, service: ServiceName, sender: Sender<Arc<Snapshot>>) {
    tokio::select! {
        biased;
        () = sender.closed() => {}
        () = query(&api, &service, &sender) => {}
    }
}

async fn query(api: &Api, service: &ServiceName, sender: &Sender<Arc<Snapshot>>) {
    let mut index = 0;
    // Highest index seen since the registry last went backwards; outlives the errors that reset `index`.
    let mut highest = 0;
    let mut failures = 0;
    loop {
        match api.health(service.as_str(), index, WAIT, false).await {
            Ok((entries, next)) => {
                if failures > 0 {
                    tracing::info!(%service, registry = api.address(), "the registry answers again");
                }
                failures = 0;
                let lost = next < highest;
                highest = next;
                if entries.is_empty() && !sender.borrow().endpoints.is_empty() {
                    mark_stale(sender);
                    tracing::warn!(%service, "the registry suddenly lists no instance: asking again before believing it");
                    let grace = if lost { GRACE_AFTER_LOSS } else { GRACE };
                    wait_for_instances(api, service, next, grace).await;
                    match confirm(api, service).await {
                        Ok(Some(entries)) => publish(sender, entries),
                        Ok(None) => tracing::warn!(%service, "the registry lists nothing at all: a token without rights?"),
                        Err(error) => tracing::debug!(%service, %error, "no second answer"),
                    }
                    index = 0;
                    continue;
                }
                publish(sender, entries);
                // Backwards means another history: a stale high index would sleep through its changes.
                index = if next < index { 0 } else { next.max(1) };
                sleep(DEBOUNCE).await;
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%service, registry = api.address(), error = &error as &dyn std::error::Error, "the registry fails: the last good endpoints stay");
                }
                mark_stale(sender);
                index = 0;
                sleep(backoff(failures)).await;
                failures += 1;
            }
        }
    }
}

/// Ends with the grace period, or as soon as an instance is back: one told again is used again at once.
async fn wait_for_instances(api: &Api, service: &ServiceName, mut index: u64, grace: Duration) {
    let end = Instant::now() + grace;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match api.health(service.as_str(), index.max(1), left.min(WAIT), false).await {
            Ok((entries, _)) if !entries.is_empty() => return,
            Ok((_, next)) => index = next,
            Err(_) => index = 0,
        }
        // Neither a storm of wake-ups nor an agent that fails at once may turn this into a busy loop.
        sleep(DEBOUNCE).await;
    }
}

/// A second opinion: `None` when the answer proves nothing. A token without rights sees empty lists everywhere, while
/// every real catalogue holds at least Consul itself.
async fn confirm(api: &Api, service: &ServiceName) -> Result<Option<Vec<HealthEntry>>, ApiError> {
    let (entries, _) = api.health(service.as_str(), 0, WAIT, false).await?;
    let proven = !entries.is_empty() || !api.services().await?.is_empty();
    Ok(proven.then_some(entries))
}

/// Whoever is as before stays the same value, so that those who follow see at a glance what changed.
fn publish(sender: &Sender<Arc<Snapshot>>, entries: Vec<HealthEntry>) {
    sender.send_if_modified(|old| {
        let known = |id: &str| old.endpoints.binary_search_by(|e| (*e.id).cmp(id)).ok().and_then(|at| old.endpoints.get(at));
        let endpoint = |entry: HealthEntry| {
            let new = entry.into_endpoint();
            known(&new.id).filter(|old| ***old == new).cloned().unwrap_or_else(|| Arc::new(new))
        };
        let new = Snapshot::known(entries.into_iter().map(endpoint).collect());
        let changed = **old != new;
        if changed {
            *old = Arc::new(new);
        }
        changed
    });
}

fn mark_stale(sender: &Sender<Arc<Snapshot>>) {
    sender.send_if_modified(|old| {
        let known = old.state == State::Known;
        if known {
            *old = Arc::new(Snapshot { state: State::Stale, endpoints: old.endpoints.clone() });
        }
        known
    });
}

/// Exponential and jittered, so that a fleet does not come back as one.
pub(crate) fn backoff(failures: u32) -> Duration {
    let full = BACKOFF.0.saturating_mul(1 << failures.min(10)).min(BACKOFF.1);
    full.mul_f64(rand::rng().random_range(0.5..1.0))
}
