//! Following: new, late, from several replicas, through deaths.

use crate::{
    databases::{self, Database, on_both},
    world::{SOON, World, settled},
};
use chrono::TimeDelta;
use sinew_core::SystemClock;
use sinew_events::{Checkpoint, Reached, SqlCheckpoint};
use sinew_sql::now;
use std::time::Duration;
use uuid::Uuid;

on_both! {
    everything_that_happens_takes_effect_once_and_in_order
    a_new_consumer_takes_what_is_there_and_then_what_happens
    a_consumer_that_was_away_catches_up
    one_that_was_away_for_too_long_takes_the_snapshot
    one_that_is_ahead_of_its_publisher_takes_the_snapshot
    a_dead_replica_is_followed_by_another_within_its_lease
    a_replica_that_leaves_is_followed_by_another_at_once
    a_lost_copy_is_rebuilt_while_changes_go_on
    what_a_broker_has_yet_to_be_handed_is_kept
}

async fn everything_that_happens_takes_effect_once_and_in_order(database: Database) {
    let world = World::start(database).await;
    let _replicas = [world.replica("a"), world.replica("b")];
    world.subscription("the empty snapshot", |s| s.position.is_some()).await;
    let things: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    for i in 0..200 {
        world.change(things[i % things.len()]).await;
    }
    world.copied().await;
    assert!(world.effects().await.into_iter().eq((1..=200).map(|pos| (pos, 1))));
    assert_eq!(world.out_of_order().await, 0);
}

async fn a_new_consumer_takes_what_is_there_and_then_what_happens(database: Database) {
    let world = World::start(database).await;
    // More than a page, and then some while the pages are read.
    let mut tx = world.db.begin().await.unwrap();
    for _ in 0..1_200 {
        world.change_in(&mut tx, Uuid::now_v7()).await.unwrap();
    }
    tx.commit().await.unwrap();
    let before = settled(&world).await;
    let _replica = world.replica("a");
    for _ in 0..50 {
        world.change(Uuid::now_v7()).await;
    }
    world.copied().await;
    let effects = world.effects().await;
    assert!(effects.iter().all(|(pos, times)| *pos > before && *times == 1), "told again: {effects:?}");
}

async fn a_consumer_that_was_away_catches_up(database: Database) {
    let world = World::start(database).await;
    let thing = Uuid::now_v7();
    let replica = world.replica("a");
    world.subscription("the empty snapshot", |s| s.position.is_some()).await;
    world.change(thing).await;
    world.copied().await;
    drop(replica);
    for _ in 0..300 {
        world.change(thing).await;
    }
    let _back = world.replica("a");
    world.copied().await;
    assert!(world.effects().await.into_iter().eq((1..=301).map(|pos| (pos, 1))));
}

async fn one_that_was_away_for_too_long_takes_the_snapshot(database: Database) {
    let world = World::start(database).await;
    let replica = world.replica("a");
    world.subscription("the empty snapshot", |s| s.position.is_some()).await;
    drop(replica);
    for _ in 0..20 {
        world.change(Uuid::now_v7()).await;
    }
    let head = settled(&world).await;
    assert_eq!(world.publication.forget(now(&SystemClock) + TimeDelta::seconds(1)).await.unwrap(), head);
    world.change(Uuid::now_v7()).await;
    let _back = world.replica("a");
    world.copied().await;
    assert!(world.effects().await.iter().all(|(pos, _)| *pos > head));
}

/// A publisher whose store was restored from yesterday gives positions out a second time.
async fn one_that_is_ahead_of_its_publisher_takes_the_snapshot(database: Database) {
    let world = World::start(database).await;
    let replica = world.replica("a");
    world.subscription("the empty snapshot", |s| s.position.is_some()).await;
    for _ in 0..20 {
        world.change(Uuid::now_v7()).await;
    }
    world.copied().await;
    drop(replica);
    let mut tx = world.db.begin().await.unwrap();
    tx.q("DELETE FROM outbox").run().await.unwrap();
    tx.q("UPDATE counters SET n = 3 WHERE name = 'outbox'").run().await.unwrap();
    tx.q("DELETE FROM copies").run().await.unwrap();
    tx.commit().await.unwrap();
    let _back = world.replica("a");
    world.copied().await;
    world.change(Uuid::now_v7()).await;
    world.copied().await;
}

async fn a_dead_replica_is_followed_by_another_within_its_lease(database: Database) {
    let world = World::start(database).await;
    let first = world.replica("first");
    world.followed_by("first").await;
    let _second = world.replica("second");
    let died = tokio::time::Instant::now();
    drop(first);
    for _ in 0..50 {
        world.change(Uuid::now_v7()).await;
    }
    world.followed_by("second").await;
    // Lease and look are 650 ms here; the rest is this machine's.
    assert!(died.elapsed() < Duration::from_secs(5), "{:?}", died.elapsed());
    world.copied().await;
    assert!(world.effects().await.iter().all(|(_, times)| *times == 1));
}

async fn a_replica_that_leaves_is_followed_by_another_at_once(database: Database) {
    let world = World::start(database).await;
    let first = world.replica("first");
    world.followed_by("first").await;
    let _second = world.replica("second");
    first.shutdown.cancel();
    tokio::time::timeout(SOON, first.task).await.expect("it leaves").unwrap();
    let left = world.admin().list().await.unwrap();
    assert!(!left[0].owner.as_deref().unwrap_or_default().starts_with("first"), "{left:?}");
    world.followed_by("second").await;
}

async fn a_lost_copy_is_rebuilt_while_changes_go_on(database: Database) {
    let world = World::start(database).await;
    let _replicas = [world.replica("a"), world.replica("b")];
    let things: Vec<Uuid> = (0..40).map(|_| Uuid::now_v7()).collect();
    for thing in &things {
        world.change(*thing).await;
    }
    world.copied().await;
    let mut tx = world.db.begin().await.unwrap();
    tx.q("DELETE FROM copies").run().await.unwrap();
    tx.commit().await.unwrap();
    let changing = async {
        for thing in things.iter().step_by(3) {
            world.change(*thing).await;
        }
    };
    let admin = world.admin();
    let (rebuilt, ()) = tokio::join!(admin.rebuild("things"), changing);
    assert!(rebuilt.unwrap());
    world.copied().await;
    assert!(world.effects().await.iter().all(|(_, times)| *times == 1));
    assert!(!world.admin().rebuild("nothing").await.unwrap());
}

/// An outage of the broker may last longer than events are kept.
async fn what_a_broker_has_yet_to_be_handed_is_kept(database: Database) {
    let world = World::start(database).await;
    for _ in 0..20 {
        world.change(Uuid::now_v7()).await;
    }
    let head = settled(&world).await;
    let bus = SqlCheckpoint::of_bus(world.db.clone(), "things", world.clock.clone());
    let lease = bus.claim("relay", SOON).await.unwrap().expect("nobody else relays");
    let seven = Reached { position: 7, head };
    assert!(bus.advance(lease.epoch, seven, SOON).await.unwrap());
    assert!(!bus.advance(lease.epoch - 1, Reached { position: 20, head }, SOON).await.unwrap(), "fenced");
    let soon = now(&SystemClock) + TimeDelta::seconds(1);
    assert_eq!(world.publication.forget(soon).await.unwrap(), 7);
    assert_eq!(world.publication.forget(soon).await.unwrap(), 0, "what is forgotten is not forgotten again");
    // Nobody tried since the cut-off: the broker is no longer used.
    assert_eq!(world.publication.forget(soon + TimeDelta::hours(1)).await.unwrap(), head);
}
