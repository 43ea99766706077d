//! What a transaction promises, on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests count as tests")]

mod databases;

use chrono::{DateTime, TimeDelta, Utc};
use databases::{Database, on_both};
use sinew_core::{Clock, SystemClock};
use sinew_sql::{DEFAULT_CONNECTIONS, Db, Error, Migrations, now, retry};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tokio::task::JoinSet;

on_both! {
    a_failed_statement_dooms_the_transaction
    unique_constraints_have_the_same_names
    concurrent_increments_are_all_counted
    a_cancelled_begin_leaves_nothing_behind
    units_cancelled_anywhere_are_done_whole_or_not_at_all
    concurrent_migrations_apply_once
    a_changed_migration_is_refused
    the_release_before_starts_on_a_newer_schema
    a_snapshot_sees_one_moment
    times_read_back_as_written
    only_a_commit_wakes
}

const SCHEMA: &str = "CREATE TABLE counters (name text PRIMARY KEY NOT NULL, n bigint NOT NULL);
    CREATE TABLE people (id bigint PRIMARY KEY NOT NULL, email text NOT NULL UNIQUE, a bigint, b bigint, UNIQUE (a, b));
    INSERT INTO counters (name, n) VALUES ('hits', 0);";

fn migrator(sql: &'static str) -> Migrator {
    let sql = sqlx::SqlStr::from_static(sql);
    Migrator::with_migrations(vec![Migration::new(1, "one".into(), MigrationType::Simple, sql, false)])
}

fn schema(table: &'static str, sql: &'static str) -> Migrations {
    Migrations::new(table, migrator(sql), migrator(sql))
}

async fn open(database: &Database) -> Db {
    let db = Db::open(&database.url, DEFAULT_CONNECTIONS).await.expect("opens");
    db.migrate(&schema("_migrations_test", SCHEMA)).await.expect("migrates");
    db
}

async fn hits(db: &Db) -> i64 {
    let mut tx = db.snapshot().await.expect("snapshot");
    tx.q("SELECT n FROM counters WHERE name = 'hits'").one::<(i64,)>().await.expect("row").0
}

/// SQLite itself would go on and commit the rest.
async fn a_failed_statement_dooms_the_transaction(database: Database) {
    let db = open(&database).await;
    let mut tx = db.begin().await.unwrap();
    tx.q("UPDATE counters SET n = 7").run().await.unwrap();
    let error = tx.q("INSERT INTO counters (name, n) VALUES ('hits', 1)").run().await.unwrap_err();
    assert!(error.is_taken("counters_pkey"), "{error:?}");
    assert!(matches!(tx.commit().await, Err(Error::Doomed)));
    assert_eq!(hits(&db).await, 0);
}

async fn unique_constraints_have_the_same_names(database: Database) {
    let db = open(&database).await;
    let insert = async |id: i64, email: &str, a: i64| {
        let mut tx = db.begin().await?;
        tx.q("INSERT INTO people (id, email, a, b) VALUES ($1, $2, $3, 1)").bind(id).bind(email).bind(a).run().await?;
        tx.commit().await
    };
    insert(1, "ann", 1).await.unwrap();
    assert!(insert(1, "bob", 2).await.unwrap_err().is_taken("people_pkey"));
    assert!(insert(2, "ann", 2).await.unwrap_err().is_taken("people_email_key"));
    assert!(insert(2, "bob", 1).await.unwrap_err().is_taken("people_a_b_key"));
    insert(2, "bob", 2).await.unwrap();
}

async fn concurrent_increments_are_all_counted(database: Database) {
    let (one, two) = (open(&database).await, open(&database).await);
    let mut tasks = JoinSet::new();
    for i in 0..60 {
        let db = if i % 2 == 0 { one.clone() } else { two.clone() };
        tasks.spawn(async move {
            retry(|| async {
                let mut tx = db.begin().await?;
                tx.q("UPDATE counters SET n = n + 1 WHERE name = 'hits'").run().await?;
                tx.commit().await
            })
            .await
            .expect("increments")
        });
    }
    tasks.join_all().await;
    assert_eq!(hits(&one).await, 60);
}

/// sqlx 0.9.0 alone gives back PostgreSQL connections that are still inside a transaction: here a read-only one, so that
/// the next user's write is refused.
async fn a_cancelled_begin_leaves_nothing_behind(database: Database) {
    // One connection: whatever a cancelled begin leaves behind, the next user finds.
    let db = Db::open(&database.url, 1).await.unwrap();
    db.migrate(&schema("_migrations_test", SCHEMA)).await.unwrap();
    for polls in (1..12).cycle().take(100) {
        drop_after(polls, db.snapshot()).await;
        drop_after(polls, db.begin()).await;
        let mut tx = db.begin().await.unwrap();
        tx.q("UPDATE counters SET n = n + 1 WHERE name = 'hits'").run().await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(hits(&open(&database).await).await, 100);
}

/// Drops the future after it was polled so often, or once it is done.
async fn drop_after<F: Future>(polls: u32, future: F) {
    let mut future = Box::pin(future);
    let mut polled = 0;
    std::future::poll_fn(|context| {
        polled += 1;
        if future.as_mut().poll(context).is_ready() || polled == polls {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
}

async fn units_cancelled_anywhere_are_done_whole_or_not_at_all(database: Database) {
    let db = open(&database).await;
    for polls in 1..60 {
        let unit = async {
            let mut tx = db.begin().await?;
            tx.q("UPDATE counters SET n = n + 1 WHERE name = 'hits'").run().await?;
            tx.q("INSERT INTO people (id, email) VALUES ($1, $2)").bind(i64::from(polls)).bind(polls.to_string()).run().await?;
            tx.commit().await
        };
        drop_after(polls, unit).await;
    }
    let mut tx = db.begin().await.unwrap();
    let (people,): (i64,) = tx.q("SELECT count(*) FROM people").one().await.unwrap();
    drop(tx);
    assert_eq!(hits(&db).await, people);
}

async fn concurrent_migrations_apply_once(database: Database) {
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let url = database.url.clone();
        tasks.spawn(async move {
            let db = Db::open(&url, 2).await.expect("opens");
            db.migrate(&schema("_migrations_test", SCHEMA)).await.expect("migrates");
            db.migrate(&schema("_migrations_other", "CREATE TABLE other (n bigint)")).await.expect("migrates");
            db.close().await;
        });
    }
    tasks.join_all().await;
    assert_eq!(hits(&open(&database).await).await, 0);
}

async fn a_changed_migration_is_refused(database: Database) {
    let db = open(&database).await;
    let error = db.migrate(&schema("_migrations_test", "CREATE TABLE changed (n bigint)")).await.unwrap_err();
    assert!(error.to_string().contains("_migrations_test"), "{error}");
    assert!(matches!(error, Error::Migrate { .. }));
    // And hinders nobody else.
    open(&database).await;
}

async fn the_release_before_starts_on_a_newer_schema(database: Database) {
    let db = open(&database).await;
    let newer = || {
        let migration = |n, sql| Migration::new(n, "".into(), MigrationType::Simple, sqlx::SqlStr::from_static(sql), false);
        Migrator::with_migrations(vec![migration(1, SCHEMA), migration(2, "ALTER TABLE counters ADD COLUMN more bigint")])
    };
    db.migrate(&Migrations::new("_migrations_test", newer(), newer())).await.expect("the newer release");
    let before = open(&database).await;
    assert_eq!(hits(&before).await, 0);
}

async fn a_snapshot_sees_one_moment(database: Database) {
    let db = open(&database).await;
    let mut snapshot = db.snapshot().await.unwrap();
    let read = "SELECT n FROM counters WHERE name = 'hits'";
    assert_eq!(snapshot.q(read).one::<(i64,)>().await.unwrap().0, 0);
    let mut tx = db.begin().await.unwrap();
    tx.q("UPDATE counters SET n = 5").run().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(snapshot.q(read).one::<(i64,)>().await.unwrap().0, 0);
    assert!(snapshot.q("UPDATE counters SET n = 6").run().await.is_err(), "a snapshot only reads");
    drop(snapshot);
    assert_eq!(hits(&db).await, 5);
}

async fn times_read_back_as_written(database: Database) {
    let db = open(&database).await;
    let table = ("CREATE TABLE times (at timestamptz NOT NULL)", "CREATE TABLE times (at TEXT NOT NULL) STRICT");
    let mut tx = db.begin().await.unwrap();
    tx.q(table).run().await.unwrap();
    let start = now(&SystemClock);
    let times: Vec<DateTime<Utc>> = [0, 1, 999_999, 500_000, 510_000].map(|us| start + TimeDelta::microseconds(us)).into();
    for time in &times {
        tx.q("INSERT INTO times (at) VALUES ($1)").bind(time).run().await.unwrap();
    }
    let read: Vec<(DateTime<Utc>,)> = tx.q("SELECT at FROM times ORDER BY at").all().await.unwrap();
    let mut sorted = times;
    sorted.sort();
    assert_eq!(read.into_iter().map(|(time,)| time).collect::<Vec<_>>(), sorted);
    assert!(start <= DateTime::<Utc>::from(SystemClock.now()));
}

async fn only_a_commit_wakes(database: Database) {
    let db = open(&database).await;
    let woken = Arc::new(AtomicU32::new(0));
    let begin = async || {
        let mut tx = db.begin().await.unwrap();
        let woken = woken.clone();
        tx.after_commit(move || {
            woken.fetch_add(1, Ordering::Relaxed);
        });
        tx
    };
    drop(begin().await);
    let mut doomed = begin().await;
    doomed.q("INSERT INTO counters (name, n) VALUES ('hits', 1)").run().await.unwrap_err();
    doomed.commit().await.unwrap_err();
    assert_eq!(woken.load(Ordering::Relaxed), 0);
    begin().await.commit().await.unwrap();
    assert_eq!(woken.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_commit_wakes_other_processes_on_postgres_and_a_rollback_nobody() {
    let soon = std::time::Duration::from_secs(10);
    let database = databases::postgres().await;
    let (ours, theirs) = (open(&database).await, Db::open(&database.url, 2).await.unwrap());
    let mut listener = theirs.listen("news").await.unwrap().expect("PostgreSQL can");
    let mut other = theirs.listen("other").await.unwrap().expect("PostgreSQL can");
    let mut rolled_back = ours.begin().await.unwrap();
    rolled_back.notify("news").await.unwrap();
    drop(rolled_back);
    for channel in ["news", "other"] {
        let mut tx = ours.begin().await.unwrap();
        tx.notify(channel).await.unwrap();
        tx.commit().await.unwrap();
    }
    tokio::time::timeout(soon, other.heard()).await.expect("hears the second").unwrap();
    tokio::time::timeout(soon, listener.heard()).await.expect("hears the first").unwrap();
    // What was rolled back would have come before both.
    let nothing = tokio::time::timeout(std::time::Duration::ZERO, listener.heard()).await;
    assert!(nothing.is_err(), "woken by a rollback");
}

#[tokio::test]
async fn sqlite_has_no_wake_ups_between_processes() {
    let database = databases::sqlite().await;
    let db = open(&database).await;
    assert!(db.listen("news").await.unwrap().is_none());
    let mut tx = db.begin().await.unwrap();
    tx.notify("news").await.unwrap();
    tx.commit().await.unwrap();
}

/// What a frozen process holds must not stop the others for longer than its lease.
#[tokio::test]
async fn postgres_ends_a_transaction_that_pauses() {
    let database = databases::postgres().await;
    let db = open(&database).await;
    let mut frozen = db.begin().await.unwrap();
    frozen.q("UPDATE counters SET n = 7").run().await.unwrap();
    let began = tokio::time::Instant::now();
    let mut other = db.begin().await.unwrap();
    other.q("UPDATE counters SET n = n + 1").run().await.unwrap();
    other.commit().await.unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
    let thawed = frozen.q("UPDATE counters SET n = 8").run().await.unwrap_err();
    assert!(thawed.is_unavailable(), "{thawed:?}");
    drop(frozen);
    assert_eq!(hits(&db).await, 1);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "this is no database, and long enough to be looked at as one".repeat(100)).unwrap();
    for (url, says) in [
        ("postgres://ann:secret@127.0.0.1:1/shop".to_owned(), "postgres://ann:***@127.0.0.1:1/shop"),
        ("mysql://ann:secret@db/shop".to_owned(), "use postgres://"),
        (format!("sqlite://{}", file.display()), "that the file is a SQLite database"),
        (format!("sqlite://{}/below/it.db", file.display()), "check that its folder exists"),
    ] {
        let error = Db::open(&url, 1).await.expect_err(&url).to_string();
        assert!(error.contains(says) && !error.contains("secret"), "{error}");
    }
}
