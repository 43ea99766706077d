//! What cannot be read does not stop the rest, is looked at, and comes back when somebody asks.

use crate::{
    stage::Stage,
    world::{Copies, SOON, event},
};
use lapin::{BasicProperties, options::BasicPublishOptions, types::FieldTable};
use sinew_core::BoxFuture;
use sinew_events::{Event, NewEvent, Projection, ProjectionError};
use sinew_rabbitmq::DeadLetter;
use sinew_sql::Tx;
use std::sync::Arc;
use uuid::Uuid;

/// A consumer that was mended: it reads what the other could not.
#[derive(Debug)]
struct Mended;

impl Projection for Mended {
    fn apply<'a>(&'a self, tx: &'a mut Tx, event: &'a Event) -> BoxFuture<'a, Result<(), ProjectionError>> {
        Box::pin(async move {
            let payload = if event.payload == [0xff] { vec![8, 1] } else { event.payload.clone() };
            Copies.apply(tx, &Event { payload, ..event.clone() }).await
        })
    }
}

/// Waits until there are so many dead letters.
async fn letters(stage: &Stage, wanted: usize) -> Vec<DeadLetter> {
    testkit::wait_for(&format!("{wanted} dead letters"), SOON, async || match stage.dead_letters().list(10).await {
        Ok((letters, all)) if all == wanted && letters.len() == wanted => Ok(letters),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap()
}

pub(crate) async fn what_cannot_be_read_is_put_aside_and_replayed(stage: Stage) {
    let world = &stage.world;
    let _relay = stage.relay("a");
    let replica = stage.replica("a");
    stage.followed().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let mut tx = world.db.begin().await.unwrap();
    world.change_in(&mut tx, Uuid::now_v7()).await.unwrap();
    for thing in [first, second] {
        let broken = NewEvent { payload: vec![0xff], ..event(thing, 1) };
        world.outbox.append(&mut tx, broken).await.unwrap();
    }
    world.change_in(&mut tx, Uuid::now_v7()).await.unwrap();
    tx.commit().await.unwrap();
    // What comes after them is not stopped.
    world.copied().await;
    world.subscription("the end", |s| s.position == Some(4) && s.trouble.is_none()).await;
    let put_aside = letters(&stage, 2).await;
    let expected = |letter: &DeadLetter, thing: Uuid, position| {
        letter.subject == Some(thing.to_string())
            && letter.kind.as_deref() == Some("thing.changed")
            && (letter.position, letter.version) == (Some(position), Some(1))
            && letter.reason.as_deref() == Some("rejected")
            && letter.since.is_some()
            && letter.payload == [0xff]
    };
    assert!(expected(&put_aside[0], first, 2) && expected(&put_aside[1], second, 3), "{put_aside:?}");
    assert_eq!(stage.counted("events_rejected_total"), 2);
    // Looking at them changes nothing, not even their order.
    assert_eq!(letters(&stage, 2).await, put_aside);
    // Replayed too early they come back.
    assert_eq!(stage.dead_letters().replay(10, None).await.unwrap(), 2);
    testkit::wait_for("both to be refused again", SOON, async || match stage.counted("events_rejected_total") {
        4 => Ok(()),
        n => Err(format!("{n} refused")),
    })
    .await
    .unwrap();
    let put_aside = letters(&stage, 2).await;
    drop(replica);
    let _mended = world.replica_with("mended", stage.feed(), Arc::new(Mended));
    let id = put_aside.iter().find(|l| l.position == Some(3)).and_then(|l| l.id.clone()).expect("an id");
    assert_eq!(stage.dead_letters().replay(10, Some(&id)).await.unwrap(), 1);
    letters(&stage, 1).await;
    assert_eq!(stage.dead_letters().replay(10, Some(&id)).await.unwrap(), 0, "it is no longer there");
    assert_eq!(stage.dead_letters().replay(10, None).await.unwrap(), 1);
    letters(&stage, 0).await;
    testkit::wait_for("both to take effect", SOON, async || {
        let effects = world.effects().await;
        if effects == [(1, 1), (2, 1), (3, 1), (4, 1)] { Ok(()) } else { Err(format!("{effects:?}")) }
    })
    .await
    .unwrap();
    // Late ones did not take the position back.
    world.subscription("the position", |s| s.position == Some(4)).await;
}

pub(crate) async fn a_message_that_is_no_event_is_put_aside(stage: Stage) {
    let world = &stage.world;
    let (_relay, _replica) = (stage.relay("a"), stage.replica("a"));
    stage.followed().await;
    let (_connection, channel) = stage.channel().await;
    let publish = |properties: BasicProperties| {
        let key = format!("{}.teapot", world.publisher);
        channel.basic_publish("events".into(), key.into(), BasicPublishOptions::default(), b"short and stout", properties)
    };
    publish(BasicProperties::default()).await.unwrap();
    publish(BasicProperties::default().with_headers(FieldTable::default()).with_message_id("teapot".into())).await.unwrap();
    world.change(Uuid::now_v7()).await;
    world.copied().await;
    let put_aside = letters(&stage, 2).await;
    assert_eq!(put_aside[1].id.as_deref(), Some("teapot"));
    assert!(put_aside.iter().all(|l| l.payload == b"short and stout" && l.reason.as_deref() == Some("rejected")));
}
