//! Outbox, inbox and idempotency keys, on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests count as tests")]

#[path = "../../sinew-sql/tests/databases/mod.rs"]
mod databases;

use chrono::{DateTime, TimeDelta, Utc};
use databases::{Database, on_both};
use sinew_core::{Context, SystemClock, context, trace::TraceContext};
use sinew_events::{
    Event, Inbox, NewEvent, Outbox,
    idempotency::{self, Claim, Error, Fingerprint, KEPT, Key},
    migrations,
};
use sinew_sql::{DEFAULT_CONNECTIONS, Db, now, retry};
use std::collections::BTreeMap;
use tokio::task::JoinSet;
use uuid::Uuid;

on_both! {
    an_event_comes_with_its_change_or_not_at_all
    positions_are_gapless_and_keep_the_order_of_each_aggregate
    an_event_belongs_to_the_trace_of_its_call
    a_committed_event_wakes_its_reader
    an_event_takes_effect_once_per_consumer
    a_repeat_gets_the_first_answer
    a_failed_request_leaves_its_key_free
    one_of_many_concurrent_requests_acts
    keys_are_forgotten_after_a_day
}

async fn open(database: &Database) -> Db {
    let db = Db::open(&database.url, DEFAULT_CONNECTIONS).await.unwrap();
    db.migrate(&migrations()).await.unwrap();
    db
}

fn event(aggregate: Uuid, version: i64) -> NewEvent<'static> {
    NewEvent::new(aggregate, version, "thing.changed", &prost_types::Duration { seconds: version, nanos: 0 }, now(&SystemClock))
}

async fn all(outbox: &Outbox, db: &Db) -> Vec<Event> {
    while outbox.sequence(db, 7).await.unwrap() > 0 {}
    outbox.read(db, 0, 10_000).await.unwrap()
}

async fn an_event_comes_with_its_change_or_not_at_all(database: Database) {
    let (db, outbox) = (open(&database).await, Outbox::default());
    let mut tx = db.begin().await.unwrap();
    outbox.append(&mut tx, event(Uuid::now_v7(), 1)).await.unwrap();
    drop(tx);
    assert!(all(&outbox, &db).await.is_empty());
    let (kept, id) = (event(Uuid::now_v7(), 4), Uuid::now_v7());
    let mut tx = db.begin().await.unwrap();
    outbox.append(&mut tx, NewEvent { aggregate: id, ..kept.clone() }).await.unwrap();
    tx.commit().await.unwrap();
    let read = all(&outbox, &db).await;
    let [read] = &*read else { panic!("{read:?}") };
    assert_eq!((read.pos, read.aggregate, read.version, &*read.kind, read.schema), (1, id, 4, "thing.changed", 1));
    assert_eq!((&read.payload, read.occurred_at), (&kept.payload, kept.time));
}

/// Writers commit in another order than they drew their ids: a reader with a cursor on ids would skip some for good.
async fn positions_are_gapless_and_keep_the_order_of_each_aggregate(database: Database) {
    let (db, outbox) = (open(&database).await, Outbox::default());
    let mut tx = db.begin().await.unwrap();
    tx.q((
        "CREATE TABLE things (id uuid PRIMARY KEY, version bigint NOT NULL)",
        "CREATE TABLE things (id BLOB PRIMARY KEY NOT NULL, version INTEGER NOT NULL) STRICT",
    ))
    .run()
    .await
    .unwrap();
    let things: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    for thing in &things {
        tx.q("INSERT INTO things (id, version) VALUES ($1, 0)").bind(*thing).run().await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut writers = JoinSet::new();
    for i in 0..200usize {
        let (db, outbox, thing) = (db.clone(), outbox.clone(), things[i % things.len()]);
        writers.spawn(async move {
            retry(|| async {
                let mut tx = db.begin().await?;
                let next = "UPDATE things SET version = version + 1 WHERE id = $1 RETURNING version";
                let (version,) = tx.q(next).bind(thing).one::<(i64,)>().await?;
                outbox.append(&mut tx, event(thing, version)).await?;
                tokio::task::yield_now().await;
                tx.commit().await
            })
            .await
            .unwrap();
        });
    }
    // Two number while the others write, and one reads as it goes.
    let mut seen: Vec<Event> = Vec::new();
    let reading = async {
        while seen.len() < 200 {
            let (a, b) = tokio::join!(outbox.sequence(&db, 11), outbox.sequence(&db, 11));
            a.unwrap();
            b.unwrap();
            let after = seen.last().map_or(0, |event| event.pos);
            seen.extend(outbox.read(&db, after, 50).await.unwrap());
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), reading).await.expect("all events are read");
    writers.join_all().await;
    assert!(seen.iter().map(|event| event.pos).eq(1..=200));
    let mut versions: BTreeMap<Uuid, i64> = BTreeMap::new();
    for event in &seen {
        let version = versions.entry(event.aggregate).or_default();
        *version += 1;
        assert_eq!(event.version, *version);
    }
}

/// Only PostgreSQL lets a later one overtake: SQLite has one writer.
#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_read_late_and_not_skipped() {
    let (db, outbox) = (open(&databases::postgres().await).await, Outbox::default());
    let append = async |id| {
        let mut tx = db.begin().await.unwrap();
        outbox.append(&mut tx, event(id, 1)).await.unwrap();
        tx
    };
    let (late, early) = (Uuid::now_v7(), Uuid::now_v7());
    let slow = append(late).await;
    append(early).await.commit().await.unwrap();
    let read = all(&outbox, &db).await;
    assert_eq!(read.iter().map(|event| event.aggregate).collect::<Vec<_>>(), [early]);
    slow.commit().await.unwrap();
    assert_eq!(outbox.sequence(&db, 7).await.unwrap(), 1);
    let read = outbox.read(&db, read[0].pos, 7).await.unwrap();
    assert_eq!(read.iter().map(|event| (event.pos, event.aggregate)).collect::<Vec<_>>(), [(2, late)]);
}

async fn an_event_belongs_to_the_trace_of_its_call(database: Database) {
    let (db, outbox) = (open(&database).await, Outbox::default());
    let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let context = Context { trace: TraceContext::parse(header), ..Context::default() };
    let append = async {
        let mut tx = db.begin().await.unwrap();
        outbox.append(&mut tx, event(Uuid::now_v7(), 1)).await.unwrap();
        tx.commit().await.unwrap();
    };
    context::scope(context, append).await;
    assert_eq!(all(&outbox, &db).await[0].traceparent.as_deref(), Some(header));
}

async fn a_committed_event_wakes_its_reader(database: Database) {
    let (db, outbox) = (open(&database).await, Outbox::default());
    let mut tx = db.begin().await.unwrap();
    outbox.append(&mut tx, event(Uuid::now_v7(), 1)).await.unwrap();
    let waiting = outbox.clone();
    let reader = tokio::spawn(async move { waiting.appended().await });
    tokio::task::yield_now().await;
    assert!(!reader.is_finished());
    tx.commit().await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(5), reader).await.expect("woken").unwrap();
}

async fn an_event_takes_effect_once_per_consumer(database: Database) {
    let db = open(&database).await;
    let (mail, audit, at) = (Inbox::new("mail"), Inbox::new("audit"), now(&SystemClock));
    let [one, two, three] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let seen = async |inbox: &Inbox, events: &[Uuid], commit: bool| {
        let mut tx = db.begin().await.unwrap();
        let first = inbox.first_times(&mut tx, events, at).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        }
        first
    };
    assert_eq!(seen(&mail, &[one], false).await, [one].into());
    assert_eq!(seen(&mail, &[two, one, two], true).await, [one, two].into(), "the first effect was rolled back");
    assert_eq!(seen(&mail, &[one, three, two], true).await, [three].into());
    assert_eq!(seen(&audit, &[one], true).await, [one].into());
    assert!(seen(&mail, &[], true).await.is_empty());
    assert_eq!(Inbox::sweep(&db, at + TimeDelta::hours(2), TimeDelta::hours(1)).await.unwrap(), 4);
}

/// Claims, acts, answers, as a service does.
async fn request(db: &Db, caller: &str, body: &str, answer: &str, at: DateTime<Utc>) -> Result<String, Error> {
    retry(|| async {
        let key = Key { caller, key: "k" };
        let mut tx = db.begin().await?;
        match idempotency::claim(&mut tx, key, &Fingerprint::of("Do", body.as_bytes()), at).await? {
            Claim::Repeat(first) => Ok(String::from_utf8(first).unwrap()),
            Claim::First => {
                idempotency::answer(&mut tx, key, answer.as_bytes()).await?;
                tx.commit().await?;
                Ok(answer.to_owned())
            }
        }
    })
    .await
}

async fn a_repeat_gets_the_first_answer(database: Database) {
    let (db, at) = (open(&database).await, now(&SystemClock));
    assert_eq!(request(&db, "ann", "body", "one", at).await.unwrap(), "one");
    assert_eq!(request(&db, "ann", "body", "two", at).await.unwrap(), "one");
    assert!(matches!(request(&db, "ann", "other body", "two", at).await, Err(Error::Reused)));
    assert_eq!(request(&db, "bob", "other body", "three", at).await.unwrap(), "three", "keys belong to their caller");
    assert_ne!(Fingerprint::of("Do", b"it"), Fingerprint::of("Doi", b"t"));
}

async fn a_failed_request_leaves_its_key_free(database: Database) {
    let (db, at) = (open(&database).await, now(&SystemClock));
    let mut tx = db.begin().await.unwrap();
    let claim = idempotency::claim(&mut tx, Key { caller: "ann", key: "k" }, &Fingerprint::of("Do", b"bad"), at).await;
    assert_eq!(claim.unwrap(), Claim::First);
    drop(tx);
    assert_eq!(request(&db, "ann", "good", "one", at).await.unwrap(), "one");
}

async fn one_of_many_concurrent_requests_acts(database: Database) {
    let (db, at) = (open(&database).await, now(&SystemClock));
    let mut requests = JoinSet::new();
    for i in 0..16 {
        let db = db.clone();
        requests.spawn(async move { request(&db, "ann", "body", &i.to_string(), at).await.unwrap() });
    }
    let answers = requests.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

async fn keys_are_forgotten_after_a_day(database: Database) {
    let (db, at) = (open(&database).await, now(&SystemClock));
    assert_eq!(request(&db, "ann", "body", "one", at).await.unwrap(), "one");
    assert_eq!(idempotency::sweep(&db, at + KEPT).await.unwrap(), 0);
    let later = at + KEPT + TimeDelta::seconds(1);
    assert_eq!(request(&db, "ann", "other body", "two", later).await.unwrap(), "two", "forgotten before it was swept");
    assert_eq!(idempotency::sweep(&db, later + KEPT + TimeDelta::seconds(1)).await.unwrap(), 1);
}
