//! Handing a publisher's events to the broker.
//!
//! ```text
//!           ┌──────── lease lost, fenced ───────┐
//!           ▼                                   │
//!        waiting ── claim ──► connecting ──► relaying: read ─► publish ─► confirmed ─► position
//!           ▲                   ▲    │            │                          (in batches, some under way at once)
//!           └── shutdown        └────┴── wait ◄───┘ connection lost, event refused
//! ```
//!
//! One replica does, under a lease in the publisher's own store. The position moves when the broker has confirmed
//! everything up to it, so a relay that dies hands some events over again and leaves none out: at least once. Consumers
//! drop repeats by the event's id.

mod meter;
mod session;

use crate::{Bus, BusError};
use meter::Meter;
use sinew_core::{Rng, chain};
use sinew_events::{Checkpoint, CheckpointError, Lease, Publication, PublicationError, SubscriptionConfig, Tenure};
use std::{convert::Infallible, sync::Arc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Hands the events of one publisher to the broker.
#[derive(Debug)]
pub struct Relay {
    bus: Bus,
    publisher: String,
    instance: String,
    publication: Arc<dyn Publication>,
    checkpoint: Arc<dyn Checkpoint>,
    tenure: Tenure,
    meter: Meter,
}

/// Why relaying stopped.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Publication(#[from] PublicationError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("another replica relays")]
    Fenced,
}

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Self {
        Self::Bus(error.into())
    }
}

impl Relay {
    pub(crate) fn new(
        bus: Bus,
        (publisher, instance): (&str, &str),
        publication: Arc<dyn Publication>,
        checkpoint: Arc<dyn Checkpoint>,
        config: SubscriptionConfig,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let what = format!("relaying {publisher}");
        let tenure = Tenure::new(checkpoint.clone(), (&what, instance), config, rng);
        let meter = Meter::new(publisher);
        Self { bus, publisher: publisher.to_owned(), instance: instance.to_owned(), publication, checkpoint, tenure, meter }
    }

    /// Relays, or waits to, until `shutdown`; then gives the relay to another replica.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all work at once, as a crash would: another replica relays when the lease ends.
    pub async fn run(self, shutdown: CancellationToken) {
        self.tenure.serve(&shutdown, |lease| self.relay(lease)).await;
    }

    /// Session after session, with waits in between; returns when the lease is lost.
    async fn relay(&self, mut lease: Lease) {
        let _until_dropped = self.meter.relaying();
        let mut failures = 0;
        loop {
            let before = lease;
            let Err(failure) = self.session(&mut lease).await;
            if matches!(failure, Failure::Fenced) {
                return;
            }
            failures = if lease == before { failures + 1 } else { 1 };
            let error = chain(&failure);
            tracing::warn!(publisher = self.publisher, error, failures, "events are not relayed; trying again");
            self.tenure.trouble(lease.epoch, &error).await;
            sleep(self.tenure.backoff(failures)).await;
        }
    }

    /// Connects and relays until something fails. The connection ends with it.
    async fn session(&self, lease: &mut Lease) -> Result<Infallible, Failure> {
        let session = self.bus.connect(&format!("relay of {} ({})", self.publisher, self.instance)).await?;
        let channel = session.channel().await?;
        session::run(self, &channel, lease).await
    }
}
