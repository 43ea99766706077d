//! Consumers: new, late, dead and frozen ones.

use crate::{
    freezer::{Apart, Freezer},
    stage::Stage,
    world::{Copies, Replica, SOON, config, settled},
};
use futures_util::StreamExt;
use lapin::options::QueueDeleteOptions;
use sinew_core::{BoxFuture, Rng, SharedRng};
use sinew_events::{Batches, Event, EventsServer, Feed, FeedError, MeshFeed, Page, Receipt, Subscription};
use std::sync::Arc;
use uuid::Uuid;

pub(crate) async fn everything_published_takes_effect_once_and_in_order(stage: Stage) {
    let world = &stage.world;
    let _relays = [stage.relay("a"), stage.relay("b")];
    let _replicas = [stage.replica("a"), stage.replica("b")];
    stage.followed().await;
    let things: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    for i in 0..200 {
        world.change(things[i % things.len()]).await;
    }
    world.copied().await;
    assert!(world.effects().await.into_iter().eq((1..=200).map(|pos| (pos, 1))));
    assert_eq!(world.out_of_order().await, 0);
    // What `sinew events lag` is made of.
    stage.relayed("the relay at the head", |s| s.position == Some(200) && s.trouble.is_none()).await;
    world.subscription("the consumer at the head", |s| s.position == Some(200) && s.head == 200).await;
}

pub(crate) async fn a_new_consumer_takes_the_snapshot_while_events_flow(stage: Stage) {
    let world = &stage.world;
    let mut tx = world.db.begin().await.unwrap();
    for _ in 0..700 {
        world.change_in(&mut tx, Uuid::now_v7()).await.unwrap();
    }
    tx.commit().await.unwrap();
    let before = settled(world).await;
    let (_relay, _replica) = (stage.relay("a"), stage.replica("a"));
    let thing = Uuid::now_v7();
    for _ in 0..100 {
        world.change(thing).await;
    }
    world.copied().await;
    let effects = world.effects().await;
    assert!(effects.iter().all(|(pos, times)| *pos > before && *times == 1), "told again: {effects:?}");
}

/// A feed whose consumer dies each time before it acknowledges.
#[derive(Debug)]
struct Unacknowledged(Arc<dyn Feed>);

#[derive(Debug)]
struct Lost(Box<dyn Receipt>);

impl Feed for Unacknowledged {
    fn follow<'a>(&'a self, consumer: &'a str, after: i64) -> BoxFuture<'a, Result<Batches, FeedError>> {
        Box::pin(async move {
            let batches = self.0.follow(consumer, after).await?.map(|batch| {
                let mut batch = batch?;
                batch.receipt = batch.receipt.map(|receipt| Box::new(Lost(receipt)) as _);
                Ok(batch)
            });
            Ok(Box::pin(batches) as Batches)
        })
    }

    fn page<'a>(&'a self, consumer: &'a str, token: Option<&'a str>) -> BoxFuture<'a, Result<Page, FeedError>> {
        self.0.page(consumer, token)
    }
}

impl Receipt for Lost {
    fn reject<'a>(&'a mut self, event: &'a Event) -> BoxFuture<'a, ()> {
        self.0.reject(event)
    }

    fn acknowledge(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

pub(crate) async fn a_consumer_that_hears_nothing_of_what_is_there_connects_anew(stage: Stage) {
    let world = &stage.world;
    let (relay, _replica) = (stage.relay("a"), stage.replica("a"));
    stage.followed().await;
    world.change(Uuid::now_v7()).await;
    world.copied().await;
    relay.shutdown.cancel();
    tokio::time::timeout(SOON, relay.task).await.expect("it leaves").unwrap();
    world.change(Uuid::now_v7()).await;
    let told = "the broker delivers nothing after position 1, and the publisher is at 2";
    let so = |s: &sinew_events::SubscriptionStatus| s.trouble.as_deref().is_some_and(|trouble| trouble.contains(told));
    world.subscription("the silence to be told", so).await;
    let _relay = stage.relay("b");
    world.copied().await;
    world.subscription("all to be well", |s| s.position == Some(2) && s.trouble.is_none()).await;
}

pub(crate) async fn what_was_not_acknowledged_comes_again_and_has_no_effect(stage: Stage) {
    let world = &stage.world;
    let _relay = stage.relay("a");
    let first = world.replica_on("first", Arc::new(Unacknowledged(stage.feed())));
    stage.followed().await;
    let things: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
    for i in 0..30 {
        world.change(things[i % things.len()]).await;
    }
    world.copied().await;
    drop(first);
    let _second = stage.replica("second");
    for _ in 0..10 {
        world.change(things[0]).await;
    }
    world.copied().await;
    assert!(world.effects().await.into_iter().eq((1..=40).map(|pos| (pos, 1))));
    assert_eq!(world.out_of_order().await, 0);
    assert!(stage.counted("events_redelivered_total") >= 30, "they came again");
    assert!(stage.counted("events_repeated_total") >= 30, "and were known");
}

pub(crate) async fn a_frozen_consumer_disturbs_nothing(stage: Stage) {
    let world = &stage.world;
    let _relay = stage.relay("a");
    let mut freezer = Freezer::run(&stage, |Apart { publisher, db, publication, bus, clock }| {
        let server = EventsServer::new(&publisher, Arc::new(publication), clock.clone());
        let feed = bus.feed(&publisher, Arc::new(MeshFeed::new(server.service())));
        let shared: (_, Arc<dyn Rng>) = (clock, Arc::new(SharedRng::seeded(3)));
        let who = ("copier", &*publisher, "frozen");
        let subscription = Subscription::new(who, db, Arc::new(feed), Arc::new(Copies), config(), shared);
        Replica::start(|shutdown| subscription.run(shutdown))
    });
    world.followed_by("frozen").await;
    stage.followed().await;
    let things: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
    for i in 0..30 {
        world.change(things[i % things.len()]).await;
    }
    world.copied().await;
    freezer.freeze_without_a_lock(&world.db).await;
    for i in 0..30 {
        world.change(things[i % things.len()]).await;
    }
    let _other = stage.replica("other");
    world.followed_by("other").await;
    world.copied().await;
    freezer.thaw();
    for i in 0..30 {
        world.change(things[i % things.len()]).await;
    }
    world.copied().await;
    assert!(world.effects().await.into_iter().eq((1..=90).map(|pos| (pos, 1))));
    assert_eq!(world.out_of_order().await, 0);
}

pub(crate) async fn a_queue_that_was_lost_is_made_up_for_by_the_snapshot(stage: Stage) {
    let world = &stage.world;
    let _relay = stage.relay("a");
    let replica = stage.replica("a");
    stage.followed().await;
    world.change(Uuid::now_v7()).await;
    world.copied().await;
    drop(replica);
    let (_connection, channel) = stage.channel().await;
    channel.queue_delete(stage.queue().into(), QueueDeleteOptions::default()).await.unwrap();
    for _ in 0..10 {
        world.change(Uuid::now_v7()).await;
    }
    stage.relayed("the events to be gone", |s| s.position == Some(11)).await;
    let replica = stage.replica("b");
    world.copied().await;
    // Lost while it is followed: the same.
    channel.queue_delete(stage.queue().into(), QueueDeleteOptions::default()).await.unwrap();
    for _ in 0..10 {
        world.change(Uuid::now_v7()).await;
    }
    world.copied().await;
    drop(replica);
    assert!(world.effects().await.iter().all(|(_, times)| *times == 1));
}

/// From the brokerless transport to the broker: what happened in between is in neither stream.
pub(crate) async fn a_consumer_that_knew_no_broker_takes_the_snapshot(stage: Stage) {
    let world = &stage.world;
    let _relay = stage.relay("a");
    let over_the_mesh = world.replica("a");
    stage.followed().await;
    world.change(Uuid::now_v7()).await;
    world.copied().await;
    over_the_mesh.shutdown.cancel();
    tokio::time::timeout(SOON, over_the_mesh.task).await.expect("it leaves").unwrap();
    for _ in 0..10 {
        world.change(Uuid::now_v7()).await;
    }
    stage.relayed("the events to be gone", |s| s.position == Some(11)).await;
    let _through_the_broker = stage.replica("b");
    world.copied().await;
    world.change(Uuid::now_v7()).await;
    world.copied().await;
}
