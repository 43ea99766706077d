//! One suite for users and keys, run on SQLite and on PostgreSQL, with replicas.

use super::*;
use crate::domain::*;
use sinew_core::SystemClock;
use sinew_events::Outbox;
use sinew_sql::Db;
use std::sync::Arc;
use tokio::task::JoinSet;
use uuid::Uuid;

fn new_user(email: &str, key: &str) -> NewUser {
    NewUser {
        email: Email::new(email).unwrap(),
        name: DisplayName::new("Ada").unwrap(),
        role: Role::Admin,
        password: Password::claimed("correct horse".into()),
        key: key.into(),
        caller: Caller("anonymous".into()),
    }
}

fn hash() -> Hash {
    Hash("$argon2id$".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    suite(&format!("sqlite://{}/user.db", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    let server = testkit::Postgres::start(testkit::Durability::Fast).await.unwrap();
    suite(&server.database("users").unwrap()).await;
}

async fn suite(url: &str) {
    let db = Db::open(url, 8).await.unwrap();
    db.migrate(&sinew_events::migrations()).await.unwrap();
    db.migrate(&migrations()).await.unwrap();
    let directory = Arc::new(SqlDirectory::new(db.clone(), Outbox::default(), Arc::new(SystemClock)));
    one_address_is_one_user_however_many_ask_at_once(&directory).await;
    concurrent_changes_are_all_made_and_repeats_once(&directory).await;
    replicas_that_make_the_first_key_at_once_agree_on_it(&db).await;
}

async fn one_address_is_one_user_however_many_ask_at_once(directory: &Arc<SqlDirectory>) {
    let mut calls = JoinSet::new();
    for n in 0..20 {
        let directory = directory.clone();
        // Each key twice.
        calls.spawn(async move { directory.create(&new_user("ada@example.org", &(n / 2).to_string()), &hash()).await });
    }
    let answers = calls.join_all().await;
    let made: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!((made.len(), made.iter().filter(|done| done.repeat).count()), (2, 1), "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(Error::EmailTaken))), "{answers:?}");
    let (user, kept) = directory.credentials(&Email::new("ada@example.org").unwrap()).await.unwrap().unwrap();
    assert_eq!((&user, kept), (&made[0].user, hash()));
    assert_eq!(directory.get(user.id).await.unwrap(), user);
    assert_eq!(directory.list(Page { after: None, limit: 9 }).await.unwrap(), [user]);
}

async fn concurrent_changes_are_all_made_and_repeats_once(directory: &Arc<SqlDirectory>) {
    let id = directory.create(&new_user("bob@example.org", "bob"), &hash()).await.unwrap().user.id;
    let change = |n: usize| Changes {
        id,
        version: None,
        email: None,
        name: Some(DisplayName::new(&format!("Bob {n}")).unwrap()),
        password: None,
        key: n.to_string(),
        caller: Caller(id.0.to_string()),
    };
    let mut calls = JoinSet::new();
    for n in 0..20 {
        let (directory, changes) = (directory.clone(), change(n / 2));
        calls.spawn(async move { directory.update(&changes, None).await.unwrap() });
    }
    calls.join_all().await;
    assert_eq!(directory.get(id).await.unwrap().version, 11);
    let stale = Changes { version: Some(1), key: "stale".into(), ..change(99) };
    assert!(matches!(directory.update(&stale, None).await, Err(Error::Stale)));
    let taken = Changes { email: Email::new("ada@example.org").ok(), key: "taken".into(), ..change(99) };
    assert!(matches!(directory.update(&taken, None).await, Err(Error::EmailTaken)));
    let unknown = Changes { id: UserId(Uuid::now_v7()), key: "unknown".into(), ..change(99) };
    assert!(matches!(directory.update(&unknown, None).await, Err(Error::NotFound)));
}

async fn replicas_that_make_the_first_key_at_once_agree_on_it(db: &Db) {
    let mut replicas = JoinSet::new();
    for _ in 0..8 {
        let keys = SqlKeys::new(db.clone());
        replicas.spawn(async move { Issuer::new(keys, Arc::new(SystemClock)).await.unwrap().published().await.unwrap() });
    }
    let published = replicas.join_all().await;
    assert!(published.iter().all(|keys| keys.len() == 1 && *keys == published[0]), "{published:?}");
}
