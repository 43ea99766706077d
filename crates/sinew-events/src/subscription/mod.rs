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
//! thaws writes nothing. Events arrive at least once (Kleppmann, Designing Data-Intensive Applications, ch. 11).
//!
//! Over the mesh they arrive in order, and one that cannot be read stops the subscription, says why, and is never passed
//! over. A broker can put it aside, so it is rejected there and the rest goes on; that leaves gaps, and faults of the
//! broker bring events out of their place, so there it is the aggregates' versions that decide, and the inbox.

mod admin;
mod follow;
mod meter;
mod store;

pub use admin::SubscriptionsAdmin;
pub use store::SubscriptionStatus;

use crate::{Feed, Inbox, Lease, Projection, ProjectionError, SqlCheckpoint, Tenure, checkpoint::Name};
use chrono::{DateTime, TimeDelta, Utc};
use follow::{Failure, Turn};
use meter::Meter;
use sinew_core::{Clock, Rng};
use sinew_sql::Db;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

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
    /// The longest wait after failures. 1 s: what comes back, a publisher or a broker, is followed within that, and one try a
    /// second by the one replica that holds the lease burdens nobody.
    pub backoff_max: Duration,
}

impl Default for SubscriptionConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_millis(2_500),
            look: Duration::from_millis(250),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// Follows one publisher.
#[derive(Debug)]
pub struct Subscription {
    name: Name,
    db: Db,
    checkpoint: SqlCheckpoint,
    tenure: Tenure,
    feed: Arc<dyn Feed>,
    projection: Arc<dyn Projection>,
    inbox: Inbox,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
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
        let checkpoint = SqlCheckpoint::new(db.clone(), name.clone(), clock.clone());
        let what = format!("following {publisher}");
        let tenure = Tenure::new(Arc::new(checkpoint.clone()), (&what, instance), config, rng.clone());
        let inbox = Inbox::new(format!("{consumer}.{publisher}"));
        let meter = Meter::new(&name);
        Self { name, db, checkpoint, tenure, feed, projection, inbox, clock, rng, meter }
    }

    /// Follows, or waits to, until `shutdown`; then gives the subscription to another replica.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all work at once, as a crash would: another replica follows when the lease ends.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = self.tenure.serve(&shutdown, |lease| self.follow(lease)) => {}
            () = self.sweep() => {}
        }
    }

    /// Turn after turn, with waits after those that failed; returns when the lease is lost.
    async fn follow(&self, mut lease: Lease) {
        self.meter.takeovers.fetch_add(u64::from(lease.epoch > 1), Relaxed);
        let _until_dropped = self.meter.following();
        let mut failures = 0;
        loop {
            let before = lease;
            match self.turn(&mut lease).await {
                Turn::Lost => {
                    self.meter.fenced.fetch_add(1, Relaxed);
                    return;
                }
                Turn::Again => {}
                Turn::Failed(failure) => {
                    failures = if lease == before { failures + 1 } else { 1 };
                    self.tell(&lease, &failure).await;
                    sleep(self.tenure.backoff(failures)).await;
                }
            }
        }
    }

    /// Says why the subscription does not get on, where people look.
    async fn tell(&self, lease: &Lease, failure: &Failure) {
        let (publisher, error) = (&self.name.publisher, failure.to_string());
        match failure {
            // Somebody must look: it will not pass by itself.
            Failure::Projection(ProjectionError::Malformed { .. }) | Failure::Broken(_) => {
                tracing::error!(publisher, error, hint = "sinew events rebuild", "the subscription is stuck");
            }
            _ => tracing::warn!(publisher, error, "the subscription does not get on; trying again"),
        }
        self.tenure.trouble(lease.epoch, &error).await;
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
}
