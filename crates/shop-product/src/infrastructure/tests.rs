//! One suite for the catalogue, run on SQLite, PostgreSQL and Redis.

use super::*;
use crate::domain::*;
use sinew_core::SystemClock;
use sinew_events::Outbox;
use sinew_sql::Db;
use std::sync::Arc;
use tokio::task::JoinSet;
use uuid::Uuid;

async fn on_sql(url: &str) -> Arc<SqlCatalogue> {
    let db = Db::open(url, 8).await.unwrap();
    db.migrate(&sinew_events::migrations()).await.unwrap();
    db.migrate(&migrations()).await.unwrap();
    Arc::new(SqlCatalogue::new(db, Outbox::default(), Arc::new(SystemClock)))
}

fn keyed() -> Request {
    Request { key: Uuid::now_v7().to_string(), caller: Caller("admin".into()) }
}

fn lamp() -> NewProduct {
    let title = Title::new("Lamp").unwrap();
    NewProduct { title, description: Description::default(), price: Money::new(1_999, "EUR").unwrap() }
}

fn dearer(by: i64, version: Option<i64>) -> Changes {
    Changes { version, price: Some(Money::new(1_999 + by, "EUR").unwrap()), ..Changes::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    suite(on_sql(&format!("sqlite://{}/product.db", folder.path().display())).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    let server = testkit::Postgres::start(testkit::Durability::Fast).await.unwrap();
    suite(on_sql(&server.database("product").unwrap()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis() {
    let server = testkit::Redis::start().await.unwrap();
    suite(Arc::new(RedisCatalogue::open(&server.url(), Arc::new(SystemClock)).await.unwrap())).await;
}

async fn suite<C: Catalogue>(catalogue: Arc<C>) {
    what_was_created_is_read_back_in_pages(&*catalogue).await;
    a_repeat_is_answered_as_the_first(&*catalogue).await;
    a_change_of_an_old_version_is_refused(&*catalogue).await;
    concurrent_changes_are_all_made_and_repeats_once(catalogue).await;
}

async fn what_was_created_is_read_back_in_pages(catalogue: &impl Catalogue) {
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(catalogue.create(&keyed(), &lamp()).await.unwrap());
    }
    assert_eq!(catalogue.get(made[3].id).await.unwrap(), made[3]);
    let unknown = ProductId(Uuid::now_v7());
    assert!(matches!(catalogue.get(unknown).await, Err(Error::NotFound)));
    let mut seen = Vec::new();
    let mut page = Page { after: None, limit: 3 };
    loop {
        let found = catalogue.list(page).await.unwrap();
        let Some(last) = found.last() else { break };
        page.after = Some(last.id);
        seen.extend(found);
    }
    made.sort_by_key(|product| product.id);
    assert_eq!(seen, made);
}

async fn a_repeat_is_answered_as_the_first(catalogue: &impl Catalogue) {
    let (create, update) = (keyed(), keyed());
    let product = catalogue.create(&create, &lamp()).await.unwrap();
    let changed = catalogue.update(&update, product.id, &dearer(1, Some(1))).await.unwrap();
    assert_eq!((changed.version, changed.price.minor_units(), changed.title.as_str()), (2, 2_000, "Lamp"));
    catalogue.update(&keyed(), product.id, &dearer(2, None)).await.unwrap();
    assert_eq!(catalogue.create(&create, &lamp()).await.unwrap(), product);
    assert_eq!(catalogue.update(&update, product.id, &dearer(1, Some(1))).await.unwrap(), changed);
    assert_eq!(catalogue.get(product.id).await.unwrap().version, 3);
    assert!(matches!(catalogue.update(&update, product.id, &dearer(9, None)).await, Err(Error::KeyReused)));
    assert!(matches!(catalogue.update(&create, product.id, &dearer(9, None)).await, Err(Error::KeyReused)));
    let theirs = Request { caller: Caller("another".into()), ..create };
    assert_ne!(catalogue.create(&theirs, &lamp()).await.unwrap().id, product.id);
}

async fn a_change_of_an_old_version_is_refused(catalogue: &impl Catalogue) {
    let product = catalogue.create(&keyed(), &lamp()).await.unwrap();
    catalogue.update(&keyed(), product.id, &dearer(1, Some(1))).await.unwrap();
    assert!(matches!(catalogue.update(&keyed(), product.id, &dearer(2, Some(1))).await, Err(Error::Stale)));
    assert!(matches!(catalogue.update(&keyed(), ProductId(Uuid::now_v7()), &dearer(2, None)).await, Err(Error::NotFound)));
}

async fn concurrent_changes_are_all_made_and_repeats_once<C: Catalogue>(catalogue: Arc<C>) {
    let product = catalogue.create(&keyed(), &lamp()).await.unwrap();
    let keys: Vec<_> = (0..8).map(|_| keyed()).collect();
    let mut calls = JoinSet::new();
    for n in 0..16 {
        let (catalogue, key, id) = (catalogue.clone(), keys[n % 8].clone(), product.id);
        calls.spawn(async move { catalogue.update(&key, id, &dearer(n as i64 % 8, None)).await.unwrap() });
    }
    calls.join_all().await;
    assert_eq!(catalogue.get(product.id).await.unwrap().version, 9);
}
