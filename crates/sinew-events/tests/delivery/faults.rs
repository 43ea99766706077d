//! What must not happen: a frozen replica that writes, an event passed over, a gap.

use crate::{
    databases::{self, Database, on_both},
    world::{Copies, Replica, World, config, event, settled},
};
use futures_util::StreamExt;
use sinew_core::{BoxFuture, Rng, SharedRng, stats::Registry};
use sinew_events::{Batch, Batches, Feed, FeedError, NewEvent, Page, Subscription, SubscriptionConfig};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

on_both! {
    a_frozen_replica_writes_nothing_when_it_thaws
    an_event_that_cannot_be_read_stops_the_subscription_and_is_shown
    a_gap_is_not_passed_over
    trouble_that_has_passed_is_no_longer_told
    a_repeated_delivery_takes_effect_once
    a_transaction_held_open_while_later_ones_commit_loses_nothing
}

/// Holds each batch back until it is let through.
#[derive(Debug)]
struct Held<F> {
    feed: F,
    gate: Arc<Semaphore>,
    waiting: Arc<AtomicBool>,
}

impl<F: Feed> Feed for Held<F> {
    fn follow<'a>(&'a self, consumer: &'a str, after: i64) -> BoxFuture<'a, Result<Batches, FeedError>> {
        let (gate, waiting) = (self.gate.clone(), self.waiting.clone());
        Box::pin(async move {
            let batches = self.feed.follow(consumer, after).await?;
            let held = batches.then(move |batch| {
                let (gate, waiting) = (gate.clone(), waiting.clone());
                async move {
                    if batch.as_ref().is_ok_and(|b| !b.events.is_empty()) {
                        waiting.store(true, Relaxed);
                        gate.acquire().await.expect("open").forget();
                    }
                    batch
                }
            });
            Ok(Box::pin(held) as Batches)
        })
    }

    fn page<'a>(&'a self, consumer: &'a str, token: Option<&'a str>) -> BoxFuture<'a, Result<Page, FeedError>> {
        self.feed.page(consumer, token)
    }
}

/// The lease is taken away behind the replica's back, as when its process was stopped for longer than the lease.
async fn a_frozen_replica_writes_nothing_when_it_thaws(database: Database) {
    let world = World::of("stolen", database).await;
    let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let feed = Arc::new(Held { feed: world.feed(), gate: gate.clone(), waiting: waiting.clone() });
    // One that is frozen does not renew either, so that it learns by writing.
    let seldom = SubscriptionConfig { lease: Duration::from_secs(3_600), ..config() };
    let shared: (_, Arc<dyn Rng>) = (world.clock.clone(), Arc::new(SharedRng::seeded(7)));
    let who = ("copier", &*world.publisher, "frozen");
    let subscription = Subscription::new(who, world.db.clone(), feed, Arc::new(Copies), seldom, shared);
    let frozen = Replica::start(|shutdown| subscription.run(shutdown));
    world.followed_by("frozen").await;
    world.subscription("the empty snapshot", |s| s.position.is_some()).await;
    world.change(Uuid::now_v7()).await;
    testkit::wait_for("a batch in its hands", crate::world::SOON, async || {
        if waiting.load(Relaxed) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await
    .unwrap();
    let mut tx = world.db.begin().await.unwrap();
    let stolen = "UPDATE subscriptions SET owner = 'another', epoch = epoch + 1, lease_until = $1";
    let until = sinew_sql::now(&*world.clock) + chrono::TimeDelta::days(1);
    tx.q(stolen).bind(until).run().await.unwrap();
    tx.commit().await.unwrap();
    gate.add_permits(100);
    let labels = vec![("consumer", "copier".to_owned()), ("publisher", world.publisher.clone())];
    let refused = Registry::global().counter("event_fenced_writes_total", labels);
    testkit::wait_for("its write to be refused", crate::world::SOON, async || {
        let written = !world.effects().await.is_empty();
        if written || refused.load(Relaxed) > 0 { Ok(()) } else { Err("it has not written".to_owned()) }
    })
    .await
    .unwrap();
    // It looks for the subscription again; nothing of it was written.
    let seen = world.subscription("nothing taken", |s| s.position == Some(0) && s.owner.as_deref() == Some("another")).await;
    assert_eq!((world.effects().await.len(), seen.trouble), (0, None));
    drop(frozen);
    let mut tx = world.db.begin().await.unwrap();
    tx.q("UPDATE subscriptions SET owner = NULL").run().await.unwrap();
    tx.commit().await.unwrap();
    let _another = world.replica("another");
    world.copied().await;
    assert_eq!(world.effects().await, [(1, 1)]);
}

async fn an_event_that_cannot_be_read_stops_the_subscription_and_is_shown(database: Database) {
    let world = World::start(database).await;
    let _replica = world.replica("a");
    world.subscription("the empty snapshot", |s| s.position.is_some()).await;
    world.change(Uuid::now_v7()).await;
    let mut tx = world.db.begin().await.unwrap();
    let broken = NewEvent { payload: vec![0xff], ..event(Uuid::now_v7(), 1) };
    world.outbox.append(&mut tx, broken).await.unwrap();
    tx.commit().await.unwrap();
    world.change(Uuid::now_v7()).await;
    let stuck = world.subscription("the trouble to be told", |s| s.trouble.is_some() || s.position > Some(1)).await;
    assert!(stuck.trouble.as_deref().is_some_and(|t| t.contains("position 2")), "{stuck:?}");
    // What came before it took effect, whether or not it came in the same batch.
    assert_eq!(stuck.position, Some(1));
    // The way out: what the publisher owns is read again, from beyond the broken event.
    let head = settled(&world).await;
    assert!(world.admin().rebuild("things").await.unwrap());
    world.subscription("the way out", |s| s.position == Some(head) && s.trouble.is_none()).await;
    world.copied().await;
}

/// Leaves events out, once.
#[derive(Debug)]
struct Leaky<F> {
    feed: F,
    leak: AtomicBool,
}

impl<F: Feed> Feed for Leaky<F> {
    fn follow<'a>(&'a self, consumer: &'a str, after: i64) -> BoxFuture<'a, Result<Batches, FeedError>> {
        Box::pin(async move {
            let batches = self.feed.follow(consumer, after).await?;
            let leak = self.leak.swap(false, Relaxed);
            let leaky = batches.map(move |batch| {
                batch.map(|batch| Batch { events: batch.events.into_iter().skip(usize::from(leak)).collect(), ..batch })
            });
            Ok(Box::pin(leaky) as Batches)
        })
    }

    fn page<'a>(&'a self, consumer: &'a str, token: Option<&'a str>) -> BoxFuture<'a, Result<Page, FeedError>> {
        self.feed.page(consumer, token)
    }
}

async fn a_gap_is_not_passed_over(database: Database) {
    let world = World::start(database).await;
    let first = world.replica("first");
    world.subscription("the empty snapshot", |s| s.position.is_some()).await;
    drop(first);
    for _ in 0..10 {
        world.change(Uuid::now_v7()).await;
    }
    settled(&world).await;
    let _replica = world.replica_on("leaky", Arc::new(Leaky { feed: world.feed(), leak: AtomicBool::new(true) }));
    world.subscription("the end", |s| s.position == Some(10)).await;
    assert!(world.effects().await.into_iter().eq((1..=10).map(|pos| (pos, 1))));
}

/// A position that goes back makes everything come again.
async fn a_repeated_delivery_takes_effect_once(database: Database) {
    let world = World::start(database).await;
    let replica = world.replica("a");
    world.subscription("the empty snapshot", |s| s.position.is_some()).await;
    for _ in 0..10 {
        world.change(Uuid::now_v7()).await;
    }
    world.copied().await;
    drop(replica);
    let mut tx = world.db.begin().await.unwrap();
    tx.q("UPDATE subscriptions SET position = 0, epoch = epoch + 1, owner = NULL").run().await.unwrap();
    tx.commit().await.unwrap();
    let _again = world.replica("b");
    world.subscription("the end", |s| s.position == Some(10)).await;
    assert!(world.effects().await.into_iter().eq((1..=10).map(|pos| (pos, 1))));
}

/// On SQLite, which has one writer, the later ones wait; on PostgreSQL they overtake.
async fn a_transaction_held_open_while_later_ones_commit_loses_nothing(database: Database) {
    let world = World::start(database).await;
    let _replica = world.replica("a");
    world.subscription("the empty snapshot", |s| s.position.is_some()).await;
    let overtakes = matches!(world.db, sinew_sql::Db::Postgres(_));
    let mut slow = world.db.begin().await.unwrap();
    world.change_in(&mut slow, Uuid::now_v7()).await.unwrap();
    let later = async {
        for _ in 0..30 {
            world.change(Uuid::now_v7()).await;
        }
    };
    if overtakes {
        later.await;
        world.subscription("the later ones to have taken effect", |s| s.position == Some(30)).await;
        slow.commit().await.unwrap();
    } else {
        let ((), committed) = tokio::join!(later, slow.commit());
        committed.unwrap();
    }
    world.copied().await;
    assert!(world.effects().await.into_iter().eq((1..=31).map(|pos| (pos, 1))));
}

/// Refuses the first time.
#[derive(Debug)]
struct Refusing<F> {
    feed: F,
    refuses: AtomicBool,
}

impl<F: Feed> Feed for Refusing<F> {
    fn follow<'a>(&'a self, consumer: &'a str, after: i64) -> BoxFuture<'a, Result<Batches, FeedError>> {
        if self.refuses.load(Relaxed) {
            return Box::pin(async { Err(tonic::Status::unavailable("not now").into()) });
        }
        self.feed.follow(consumer, after)
    }

    fn page<'a>(&'a self, consumer: &'a str, token: Option<&'a str>) -> BoxFuture<'a, Result<Page, FeedError>> {
        self.feed.page(consumer, token)
    }
}

/// Though nothing happens that would move the position on.
async fn trouble_that_has_passed_is_no_longer_told(database: Database) {
    let world = World::start(database).await;
    let feed = Arc::new(Refusing { feed: world.feed(), refuses: AtomicBool::new(true) });
    let _replica = world.replica_on("a", feed.clone());
    let told = world.subscription("the trouble to be told", |s| s.trouble.is_some()).await;
    assert_eq!(told.trouble.as_deref(), Some("the publisher does not send events: not now"));
    feed.refuses.store(false, Relaxed);
    world.subscription("it to be over", |s| s.trouble.is_none() && s.position == Some(0)).await;
}
