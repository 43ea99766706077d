//! Relaying over one connection: batches are published while earlier ones wait for their confirms.

use super::{Failure, Relay};
use crate::{
    BusError,
    bus::answered,
    message::{self, FORGOTTEN},
    topology::{self, EXCHANGE, routing_key},
};
use futures_util::poll;
use lapin::{
    Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use sinew_core::{failpoint, planted};
use sinew_events::{Event, Extent, Lease, Reached};
use std::{convert::Infallible, sync::atomic::Ordering::Relaxed, task::Poll, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

/// Events read and published at once. One read of the store; the broker writes what comes together with one fsync.
const BATCH: usize = 500;

/// Batches that may be under way: one that is confirmed, one at the broker, one that is being read. More only makes more
/// come again after a lost connection.
const WINDOW: usize = 3;

/// How often the position is written at most. After a crash a tenth of a second's events come again, which the inbox
/// drops; to write it with each batch would cost the publisher a commit for every few events.
const WRITE: Duration = Duration::from_millis(100);

/// How long the broker may take to confirm before we begin again. Long: a broker that is short of memory or disk, or a
/// queue that lost its majority, would only have more to do when it goes on. Not for ever: what it lost with a leader is
/// never confirmed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a publisher with nothing to tell is asked whether it still is the one we know.
const LOOK: Duration = Duration::from_secs(1);

/// A batch on its way.
struct Sent {
    last: i64,
    head: i64,
    confirms: Vec<PublisherConfirm>,
}

/// Relays from the lease's position on, which moves along.
pub(super) async fn run(relay: &Relay, channel: &Channel, lease: &mut Lease) -> Result<Infallible, Failure> {
    let prepare = async {
        topology::lock(channel, &relay.publisher).await?;
        topology::exchange(channel).await?;
        Ok(channel.confirm_select(ConfirmSelectOptions::default()).await?)
    };
    answered("the relay's exchange", prepare).await?;
    let extent = relay.publication.extent().await?;
    let after = match lease.position {
        Some(position) if reaches(&extent, position) => position,
        _ => from_the_floor(relay, channel, extent).await?,
    };
    relay.meter.at(after, extent.head);
    let (sent, published) = mpsc::channel(WINDOW);
    tokio::select! {
        biased;
        failure = confirm(relay, published, lease) => failure,
        failure = publish(relay, channel, after, sent) => failure,
    }
}

/// Publishes all there is, and then what comes.
async fn publish(relay: &Relay, channel: &Channel, mut after: i64, sent: mpsc::Sender<Sent>) -> Result<Infallible, Failure> {
    let mut look = Instant::now() + LOOK;
    loop {
        let changed = relay.publication.changed();
        let events = relay.publication.read(after, BATCH).await?;
        let gap = events.first().is_some_and(|first| first.pos != after + 1);
        if gap || Instant::now() >= look {
            look = Instant::now() + LOOK;
            let extent = relay.publication.extent().await?;
            if !reaches(&extent, after) {
                after = from_the_floor(relay, channel, extent).await?;
                continue;
            }
        }
        let Some(last) = events.last().map(|event| event.pos) else {
            changed.await;
            continue;
        };
        let head = if events.len() < BATCH { last } else { relay.publication.extent().await?.head.max(last) };
        let confirms = send(relay, channel, &events).await?;
        after = last;
        // The other end lives as long as this future does.
        let _ = sent.send(Sent { last, head, confirms }).await;
    }
}

/// Publishes a batch. All of it is on its way before the first write is waited for: to wait for each would cost a round
/// trip between two threads per event.
async fn send(relay: &Relay, channel: &Channel, events: &[Event]) -> Result<Vec<PublisherConfirm>, Failure> {
    let options = BasicPublishOptions { mandatory: !planted!(NotMandatory), ..Default::default() };
    let mut writes = Vec::with_capacity(events.len());
    for event in events {
        let key = routing_key(&relay.publisher, &event.kind)?;
        let properties = message::properties(&relay.publisher, event);
        let mut write = Box::pin(channel.basic_publish(EXCHANGE.into(), key, options, &event.payload, properties));
        // The first poll puts it in line, so lines are in the order of positions.
        writes.push(match poll!(&mut write) {
            Poll::Ready(confirm) => Ok(confirm?),
            Poll::Pending => Err(write),
        });
    }
    let mut confirms = Vec::with_capacity(events.len());
    for write in writes {
        confirms.push(match write {
            Ok(confirm) => confirm,
            Err(write) => write.await?,
        });
    }
    Ok(confirms)
}

/// Waits for confirms, and writes the position up to which there are all.
async fn confirm(relay: &Relay, mut published: mpsc::Receiver<Sent>, lease: &mut Lease) -> Result<Infallible, Failure> {
    let mut due: Option<(Instant, Reached)> = None;
    loop {
        let next = async {
            match due {
                Some((at, _)) => tokio::select! {
                    biased;
                    () = sleep_until(at) => None,
                    sent = published.recv() => sent,
                },
                None => published.recv().await,
            }
        };
        if let Some(Sent { last, head, confirms }) = next.await {
            let first = last - i64::try_from(confirms.len()).unwrap_or(i64::MAX) + 1;
            for (position, confirm) in (first..).zip(confirms) {
                planted!(PositionBeforeConfirm => continue);
                confirmed(relay, position, confirm).await?;
            }
            relay.meter.at(last, head);
            let at = due.map_or_else(|| Instant::now() + WRITE, |(at, _)| at);
            due = Some((at, Reached { position: last, head }));
        }
        if let Some((_, reached)) = due.take_if(|(at, _)| Instant::now() >= *at) {
            failpoint!("events.relay.before_position");
            if !relay.checkpoint.advance(lease.epoch, reached, relay.tenure.lease()).await? {
                return Err(Failure::Fenced);
            }
            lease.position = Some(reached.position);
        }
    }
}

/// One event's confirm.
async fn confirmed(relay: &Relay, position: i64, confirm: PublisherConfirm) -> Result<(), Failure> {
    let confirmation = timeout(PATIENCE, confirm).await.map_err(|_| BusError::NotConfirmed(position))?;
    let returned = match confirmation {
        Ok(Confirmation::Ack(returned)) => returned.is_some(),
        Ok(Confirmation::Nack(_)) => {
            relay.meter.nacked.fetch_add(1, Relaxed);
            return Err(BusError::NotTaken(position).into());
        }
        Ok(Confirmation::NotRequested) => false,
        Err(error) => {
            relay.meter.nacked.fetch_add(1, Relaxed);
            return Err(error.into());
        }
    };
    relay.meter.published.fetch_add(1, Relaxed);
    relay.meter.returned.fetch_add(u64::from(returned), Relaxed);
    Ok(())
}

/// Begins with the oldest event there is, after telling consumers that older ones do not come.
async fn from_the_floor(relay: &Relay, channel: &Channel, extent: Extent) -> Result<i64, Failure> {
    let Extent { floor, head, .. } = extent;
    tracing::info!(publisher = relay.publisher, floor, head, "relaying from the oldest event there is");
    if floor > 0 {
        let (key, properties) = (routing_key(&relay.publisher, FORGOTTEN)?, message::forgotten(&relay.publisher, floor));
        let options = BasicPublishOptions::default();
        match channel.basic_publish(EXCHANGE.into(), key, options, &[], properties).await?.await? {
            Confirmation::Nack(_) => return Err(BusError::NotTaken(floor).into()),
            Confirmation::Ack(_) | Confirmation::NotRequested => {}
        }
    }
    Ok(floor)
}

/// Whether all events after the position can be read. Ahead of the head is a position in a store that is no more.
fn reaches(extent: &Extent, position: i64) -> bool {
    (extent.floor..=extent.head).contains(&position)
}
