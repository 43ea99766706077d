//! Relays: dead, frozen, fenced and late ones.

use crate::{
    freezer::{Apart, Freezer},
    stage::Stage,
    world::{Replica, SOON, config, settled},
};
use chrono::TimeDelta;
use lapin::{
    options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use sinew_core::{BoxFuture, SharedRng};
use sinew_events::{Event, Extent, Owned, Publication, PublicationError, SqlCheckpoint, SqlPublication};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) async fn a_dead_relay_is_followed_by_another(stage: Stage) {
    let world = &stage.world;
    let (first, _replica) = (stage.relay("first"), stage.replica("a"));
    stage.followed().await;
    let things: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
    let _second = stage.relay("second");
    stage.relayed("the first", |s| s.owner.as_deref().is_some_and(|o| o.starts_with("first"))).await;
    for i in 0..100 {
        world.change(things[i % things.len()]).await;
        if i == 50 {
            first.task.abort();
        }
    }
    world.copied().await;
    stage.relayed("the second", |s| s.owner.as_deref().is_some_and(|o| o.starts_with("second"))).await;
    assert!(world.effects().await.into_iter().eq((1..=100).map(|pos| (pos, 1))));
    assert_eq!(world.out_of_order().await, 0);
}

pub(crate) async fn a_frozen_relay_disturbs_nothing(stage: Stage) {
    let world = &stage.world;
    let _replica = stage.replica("a");
    let mut freezer = Freezer::run(&stage, |Apart { publisher, db, publication, bus, clock }| {
        let checkpoint = Arc::new(SqlCheckpoint::of_bus(db, &publisher, clock));
        let rng = Arc::new(SharedRng::seeded(5));
        let relay = bus.relay((&publisher, "frozen"), Arc::new(publication), checkpoint, config(), rng);
        Replica::start(|shutdown| relay.run(shutdown))
    });
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
    let _other = stage.relay("other");
    // It has the lease, and waits for the broker to end the frozen one's connection.
    let told = stage.relayed("what it waits for", |s| s.trouble.is_some()).await;
    assert!(told.trouble.is_some_and(|t| t.contains("another relay")), "it may not publish yet");
    world.copied().await;
    freezer.thaw();
    for i in 0..30 {
        world.change(things[i % things.len()]).await;
    }
    world.copied().await;
    assert!(world.effects().await.into_iter().eq((1..=90).map(|pos| (pos, 1))));
    assert_eq!(world.out_of_order().await, 0);
}

/// Holds each read back until it is let through.
#[derive(Debug)]
struct Held {
    publication: SqlPublication,
    gate: Arc<Semaphore>,
    waiting: Arc<AtomicBool>,
}

impl Publication for Held {
    fn extent(&self) -> BoxFuture<'_, Result<Extent, PublicationError>> {
        self.publication.extent()
    }

    fn read(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, PublicationError>> {
        Box::pin(async move {
            self.waiting.store(true, Relaxed);
            self.gate.acquire().await.expect("open").forget();
            self.publication.read(after, limit).await
        })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.publication.changed()
    }

    fn owned(&self) -> &dyn Owned {
        self.publication.owned()
    }
}

pub(crate) async fn a_relay_that_lost_its_lease_moves_nothing(stage: Stage) {
    let world = &stage.world;
    let _replica = stage.replica("a");
    stage.followed().await;
    let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let held = Held { publication: world.publication.clone(), gate: gate.clone(), waiting: waiting.clone() };
    let fenced = stage.relay_of("fenced", &stage.bus, Arc::new(held));
    testkit::wait_for("a read under way", SOON, async || if waiting.load(Relaxed) { Ok(()) } else { Err("not yet".to_owned()) })
        .await
        .unwrap();
    for _ in 0..10 {
        world.change(Uuid::now_v7()).await;
    }
    let mut tx = world.db.begin().await.unwrap();
    let stolen = "UPDATE subscriptions SET owner = 'another', epoch = epoch + 1, lease_until = $1 WHERE consumer = 'bus'";
    tx.q(stolen).bind(sinew_sql::now(&*world.clock) + TimeDelta::days(1)).run().await.unwrap();
    tx.commit().await.unwrap();
    gate.add_permits(100);
    // What it published meanwhile is true and takes effect; the position is not its to move. It notices, and leaves.
    testkit::wait_for("its connection to end", SOON, async || {
        let (_connection, channel) = stage.channel().await;
        let lock = format!("events.relay.{}", world.publisher);
        let options = QueueDeclareOptions::exclusive().passive();
        match channel.queue_declare(lock.into(), options, FieldTable::default()).await.map_err(|e| e.to_string()) {
            Err(gone) if gone.contains("NOT_FOUND") => Ok(()),
            there => Err(format!("{there:?}")),
        }
    })
    .await
    .unwrap();
    let relay = stage.relayed("another's", |s| s.owner.as_deref() == Some("another")).await;
    assert_eq!((relay.position, relay.trouble), (None, None));
    drop(fenced);
    let mut tx = world.db.begin().await.unwrap();
    tx.q("UPDATE subscriptions SET owner = NULL WHERE consumer = 'bus'").run().await.unwrap();
    tx.commit().await.unwrap();
    let _another = stage.relay("another");
    world.copied().await;
    stage.relayed("the head", |s| s.position == Some(10)).await;
    assert!(world.effects().await.into_iter().eq((1..=10).map(|pos| (pos, 1))));
}

/// One queue of somebody else's that is full makes the broker refuse what it should go to.
pub(crate) async fn what_the_broker_refuses_is_sent_again(stage: Stage) {
    let world = &stage.world;
    let _replica = stage.replica("a");
    stage.followed().await;
    let (_connection, channel) = stage.channel().await;
    let (full, everything) = (format!("full.{}", world.publisher), format!("{}.#", world.publisher));
    let mut arguments = FieldTable::default();
    arguments
        .insert("x-max-length".into(), 1i64.into())
        .insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    channel.queue_declare(full.clone().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let bound = channel.queue_bind(
        full.clone().into(),
        "events".into(),
        everything.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    let _relay = stage.relay("a");
    for _ in 0..10 {
        world.change(Uuid::now_v7()).await;
    }
    let told = stage.relayed("the refusal to be told", |s| s.trouble.is_some() || s.position == Some(10)).await;
    assert!(told.trouble.is_some() && told.position < Some(10), "{told:?}");
    channel.queue_delete(full.into(), QueueDeleteOptions::default()).await.unwrap();
    stage.relayed("the rest", |s| s.position == Some(10) && s.trouble.is_none()).await;
    world.copied().await;
    assert!(world.effects().await.into_iter().eq((1..=10).map(|pos| (pos, 1))));
}

pub(crate) async fn nobody_follows_and_the_relay_goes_on(stage: Stage) {
    let world = &stage.world;
    let _relay = stage.relay("a");
    for _ in 0..50 {
        world.change(Uuid::now_v7()).await;
    }
    stage.relayed("the head", |s| s.position == Some(50) && s.trouble.is_none()).await;
    assert_eq!(stage.counted("events_relay_published_total"), 50);
    assert_eq!(stage.counted("events_relay_returned_total"), 50);
    // Who comes later has the snapshot.
    let _replica = stage.replica("a");
    world.copied().await;
    world.change(Uuid::now_v7()).await;
    world.copied().await;
    assert_eq!(stage.counted("events_relay_returned_total"), 50);
}

pub(crate) async fn what_the_publisher_forgot_is_made_up_for_by_the_snapshot(stage: Stage) {
    let world = &stage.world;
    let (relay, _replica) = (stage.relay("a"), stage.replica("a"));
    stage.followed().await;
    world.change(Uuid::now_v7()).await;
    world.copied().await;
    relay.shutdown.cancel();
    tokio::time::timeout(SOON, relay.task).await.expect("it leaves").unwrap();
    for _ in 0..10 {
        world.change(Uuid::now_v7()).await;
    }
    let head = settled(world).await;
    // So much later that nobody relays any more, as far as the publisher knows.
    let late = sinew_sql::now(&*world.clock) + TimeDelta::days(8);
    assert_eq!(world.publication.forget(late).await.unwrap(), head);
    world.change(Uuid::now_v7()).await;
    let _relay = stage.relay("b");
    world.copied().await;
    world.change(Uuid::now_v7()).await;
    world.copied().await;
    assert!(world.effects().await.iter().all(|(pos, times)| *times == 1 && (*pos == 1 || *pos > head)));
}
