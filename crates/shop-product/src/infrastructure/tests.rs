//! One suite for the catalogue, run on SQLite, PostgreSQL and Redis.

use super::*;
use crate::domain::*;
use sinew_core::{SharedRng, SystemClock};
use sinew_events::{Event, Extent, Outbox, Publication};
use sinew_sql::Db;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
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
    publishes(&format!("sqlite://{}/published.db", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    let server = testkit::Postgres::start(testkit::Durability::Fast).await.unwrap();
    suite(on_sql(&server.database("product").unwrap()).await).await;
    publishes(&server.database("published").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis() {
    let server = testkit::Redis::start().await.unwrap();
    let catalogue = RedisCatalogue::open(&server.url(), Arc::new(SystemClock)).await.unwrap();
    suite(Arc::new(catalogue.clone())).await;
    redis::cmd("FLUSHALL").exec_async(&mut catalogue.connection()).await.unwrap();
    // A flushed catalogue is not an empty one.
    let page = Page { after: None, limit: 3 };
    assert!(matches!(catalogue.list(page).await, Err(Error::Unavailable(_))));
    assert!(matches!(catalogue.get(ProductId(Uuid::now_v7())).await, Err(Error::Unavailable(_))));
    assert!(matches!(catalogue.create(&keyed(), &lamp()).await, Err(Error::Unavailable(_))));
    assert!(Publication::extent(&catalogue).await.is_err() && catalogue.read(0, 1).await.is_err());
    // Whoever begins anew finds it empty, and tells: the head is behind whoever followed.
    let catalogue = RedisCatalogue::open(&server.url(), Arc::new(SystemClock)).await.unwrap();
    assert_eq!(catalogue.list(page).await.unwrap(), []);
    assert_eq!(Publication::extent(&catalogue).await.unwrap(), Extent::default());
    publishes(&server.url()).await;
    let Extent { head, .. } = catalogue.extent().await.unwrap();
    let later = sinew_sql::now(&SystemClock) + chrono::TimeDelta::seconds(1);
    assert_eq!(catalogue.forget(later).await.unwrap() as i64, head);
    assert_eq!(catalogue.extent().await.unwrap(), Extent { floor: head, head, pending: 0 });
    let product = catalogue.create(&keyed(), &lamp()).await.unwrap();
    let told = catalogue.read(head, 10).await.unwrap();
    assert_eq!(told.iter().map(|e| (e.pos, e.aggregate)).collect::<Vec<_>>(), [(head + 1, product.id.0)]);
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

/// Concurrent changes are told once each, in positions without a gap; and everything owned is told page by page.
async fn publishes(url: &str) {
    let store = Store::open(url, Arc::new(SystemClock)).await.unwrap();
    let upkeep = store.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { upkeep.upkeep(&SystemClock, &SharedRng::seeded(1)).await });
    let mut calls = JoinSet::new();
    for _ in 0..12 {
        let store = store.clone();
        calls.spawn(async move {
            let product = store.create(&keyed(), &lamp()).await.unwrap();
            store.update(&keyed(), product.id, &dearer(1, None)).await.unwrap();
            store.update(&keyed(), product.id, &dearer(2, None)).await.unwrap().id.0
        });
    }
    let mut ids: Vec<Uuid> = calls.join_all().await;
    ids.sort_unstable();
    let publication = store.publication();
    testkit::wait_for("all events to have positions", Duration::from_secs(20), async || {
        let extent = publication.extent().await.unwrap();
        if extent == (Extent { floor: 0, head: 36, pending: 0 }) { Ok(()) } else { Err(format!("{extent:?}")) }
    })
    .await
    .unwrap();
    let mut told: Vec<Event> = Vec::new();
    loop {
        let more = publication.read(told.last().map_or(0, |last| last.pos), 7).await.unwrap();
        assert!(more.len() <= 7);
        if more.is_empty() {
            break;
        }
        told.extend(more);
    }
    assert!(told.iter().map(|event| event.pos).eq(1..=36));
    let mut versions: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
    for event in &told {
        versions.entry(event.aggregate).or_default().push(event.version);
    }
    assert!(versions.keys().eq(&ids) && versions.values().all(|v| *v == [1, 2, 3]), "{versions:?}");
    let (mut owned, mut after) = (Vec::new(), None);
    loop {
        let page = publication.owned().page(after, 5).await.unwrap();
        after = page.last().map(|last| last.aggregate);
        let last = page.len() < 5;
        owned.extend(page.into_iter().map(|event| (event.aggregate, event.version, event.kind)));
        if last {
            break;
        }
    }
    assert!(owned.into_iter().eq(ids.into_iter().map(|id| (id, 3, "product.updated"))));
}
