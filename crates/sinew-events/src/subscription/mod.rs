//! Following another service's events, exactly once in effect.
//!
//! ```text
//!             ┌───────────── lease lost, fenced, told to begin anew ─────────────┐
//!             ▼                                                                  │
//!          waiting ── claim ──► has a position? ── no ──► snapshot, page by page ─┤
//!             ▲                     │ yes                      │ last page        │
//!             │                     ▼                          ▼                  │
//!             └── shutdown ──── following ◄────────────────────┘                  │
//!                                   │ OUT_OF_RANGE: position taken away           │
//!                                   └─────────────────────────────────────────────┘
//! ```
//!
//! Any number of replicas may run a subscription on one database; one of them follows. Position, inbox and effect of a
//! batch are one transaction, which first takes the subscription's row under the epoch of the lease: whoever froze and
//! thaws writes nothing. Events arrive at least once and in order; one that cannot be read stops the subscription, says
//! why, and is never passed over (Kleppmann, Designing Data-Intensive Applications, ch. 11).

mod admin;
mod follow;
mod meter;
mod store;

pub use admin::SubscriptionsAdmin;
pub use store::SubscriptionStatus;

use crate::{Feed, Inbox, Projection, ProjectionError};
use chrono::{DateTime, TimeDelta, Utc};
use follow::Turn;
use meter::Meter;
use sinew_core::{Clock, Rng};
use sinew_sql::Db;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use store::{Lease, Name};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long notes of events are kept: publishers keep their events no longer, so nothing older is delivered.
const INBOX_KEPT: TimeDelta = TimeDelta::days(8);

/// How often old notes are looked for.
const SWEEP: Duration = Duration::from_secs(3_600);

/// How a subscription works.
#[derive(Debug, Clone)]
pub struct SubscriptionConfig {
    /// How long a subscription stays with a silent replica. 2.5 s: with one look another follows within 3 s. Renewed
    /// three times in that time, so that two renewals may fail.
    pub lease: Duration,
    /// How often replicas that do not follow look whether they should. 250 ms: a look is one indexed read.
    pub look: Duration,
    /// The wait after the first failure; doubled with each, and at random between half and all of that. 100 ms.
    pub backoff: Duration,
    /// The longest wait after failures. 5 s: a publisher that comes back is followed within that.
    pub backoff_max: Duration,
}

impl Default for SubscriptionConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_millis(2_500),
            look: Duration::from_millis(250),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
        }
    }
}

/// Follows one publisher.
#[derive(Debug)]
pub struct Subscription {
    name: Name,
    db: Db,
    feed: Arc<dyn Feed>,
    projection: Arc<dyn Projection>,
    inbox: Inbox,
    config: SubscriptionConfig,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    /// Unique to this process: a restarted one is somebody else.
    owner: String,
    meter: Meter,
}

impl Subscription {
    /// `consumer` follows `publisher` through `feed`; effects and position are in `db`, whose tables are there.
    /// `instance` is how operators know this replica.
    pub fn new(
        (consumer, publisher, instance): (&str, &str, &str),
        db: Db,
        feed: Arc<dyn Feed>,
        projection: Arc<dyn Projection>,
        config: SubscriptionConfig,
        (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
    ) -> Self {
        let name = Name { consumer: consumer.to_owned(), publisher: publisher.to_owned() };
        let inbox = Inbox::new(format!("{consumer}.{publisher}"));
        let meter = Meter::new(&name);
        let owner = format!("{instance}/{}", Uuid::now_v7().simple());
        Self { name, db, feed, projection, inbox, config, clock, rng, owner, meter }
    }

    /// Follows, or waits to, until `shutdown`; then gives the subscription to another replica.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all work at once, as a crash would: another replica follows when the lease ends.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut held = None;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.work(&mut held) => {}
            () = self.sweep() => {}
        }
        let Some(lease) = held else { return };
        if let Err(error) = store::release(&self.db, &self.name, lease.epoch, self.now()).await {
            tracing::warn!(%error, publisher = self.name.publisher, "subscription not given back; others follow when its lease ends");
        }
    }

    async fn work(&self, held: &mut Option<Lease>) {
        let mut failures = 0;
        loop {
            match self.claim().await {
                Ok(Some(lease)) => {
                    *held = Some(lease);
                    failures = 0;
                    self.hold(lease).await;
                    *held = None;
                    self.meter.idle();
                }
                Ok(None) => {
                    failures = 0;
                    sleep(jittered(self.config.look, &*self.rng)).await;
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, publisher = self.name.publisher, "cannot look at the subscription; trying again");
                    sleep(self.backoff(failures)).await;
                }
            }
        }
    }

    async fn claim(&self) -> sinew_sql::Result<Option<Lease>> {
        let now = self.now();
        store::ensure(&self.db, &self.name, now).await?;
        let lease = store::claim(&self.db, &self.name, &self.owner, now, self.until(now)).await?;
        if let Some(Lease { epoch, position, .. }) = lease {
            let publisher = &self.name.publisher;
            tracing::info!(publisher, epoch, position, "following");
            self.meter.takeovers.fetch_add(u64::from(epoch > 1), Relaxed);
        }
        Ok(lease)
    }

    /// Follows as long as the lease is ours.
    async fn hold(&self, mut lease: Lease) {
        let epoch = lease.epoch;
        tokio::select! {
            biased;
            () = self.follow(&mut lease) => {}
            () = self.renew(epoch) => {}
        }
        tracing::info!(publisher = self.name.publisher, epoch, "another replica follows");
    }

    /// Turn after turn, with waits after those that failed; returns when the lease is lost.
    async fn follow(&self, lease: &mut Lease) {
        let mut failures = 0;
        loop {
            let before = *lease;
            let error = match self.turn(lease).await {
                Turn::Lost => {
                    self.meter.fenced.fetch_add(1, Relaxed);
                    return;
                }
                Turn::Again => continue,
                Turn::Failed(error) => error,
            };
            failures = if lease.position == before.position { failures + 1 } else { 1 };
            let text = error.to_string();
            let publisher = &self.name.publisher;
            match error {
                // Somebody must look: it will not pass by itself.
                follow::Failure::Projection(ProjectionError::Malformed { .. }) | follow::Failure::Broken(_) => {
                    tracing::error!(publisher, error = text, hint = "sinew events rebuild", "the subscription is stuck");
                }
                _ => tracing::warn!(publisher, error = text, "the subscription does not get on; trying again"),
            }
            lease.troubled = true;
            if let Err(error) = store::trouble(&self.db, &self.name, lease.epoch, Some(&text)).await {
                tracing::debug!(%error, "trouble not noted");
            }
            sleep(self.backoff(failures)).await;
        }
    }

    /// Returns when another replica has taken over.
    async fn renew(&self, epoch: i64) {
        loop {
            sleep(self.config.lease / 3).await;
            let until = self.until(self.now());
            match timeout(self.config.lease, store::renew(&self.db, &self.name, epoch, until)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "lease of a subscription not renewed; trying again"),
                Err(_) => tracing::warn!("lease of a subscription not renewed in time; trying again"),
            }
        }
    }

    /// Forgets old notes, now and then, for ever.
    async fn sweep(&self) {
        loop {
            match Inbox::sweep(&self.db, self.now(), INBOX_KEPT).await {
                Ok(forgotten) => tracing::debug!(forgotten, "old notes of events forgotten"),
                Err(error) => tracing::warn!(%error, "old notes of events not forgotten; trying again later"),
            }
            sleep(SWEEP).await;
        }
    }

    fn now(&self) -> DateTime<Utc> {
        sinew_sql::now(&*self.clock)
    }

    fn until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.config.lease).unwrap_or(TimeDelta::MAX)
    }

    fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.config.backoff.saturating_mul(1 << failures.saturating_sub(1).min(16));
        jittered(doubled.min(self.config.backoff_max), &*self.rng)
    }
}

/// Between half and all of it: replicas that began together do not stay together.
pub(crate) fn jittered(wait: Duration, rng: &dyn Rng) -> Duration {
    wait.mul_f64(0.5 + rng.unit() / 2.0)
}
