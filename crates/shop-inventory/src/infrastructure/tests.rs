//! One suite for the warehouse, run on SQLite and on PostgreSQL.

use super::{SqlWarehouse, migrations};
use crate::domain::*;
use sinew_core::SystemClock;
use sinew_sql::Db;
use std::{collections::BTreeSet, sync::Arc, task::Poll};
use tokio::task::JoinSet;
use uuid::Uuid;

async fn warehouse(db: &Db) -> SqlWarehouse {
    db.migrate(&sinew_events::migrations()).await.unwrap();
    db.migrate(&migrations()).await.unwrap();
    SqlWarehouse::new(db.clone(), sinew_events::Outbox::default(), Arc::new(SystemClock))
}

fn order() -> ReservationId {
    ReservationId(Uuid::now_v7())
}

fn lines(of: &[(ProductId, i64)]) -> Lines {
    Lines::new(of.iter().map(|(product, quantity)| Line { product: *product, quantity: *quantity })).unwrap()
}

async fn stocked(warehouse: &SqlWarehouse, on_hand: i64) -> ProductId {
    let product = ProductId(Uuid::now_v7());
    let stock = warehouse.adjust(&adjustment(product, on_hand, &product.0.to_string())).await.unwrap();
    assert_eq!((stock.on_hand, stock.reserved, stock.version), (on_hand, 0, 1));
    product
}

fn adjustment(product: ProductId, delta: i64, key: &str) -> Adjustment {
    Adjustment { product, delta, key: key.into(), caller: Caller("admin".into()) }
}

/// Runs each test on both databases, each on an empty one.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}/inventory.db", folder.path().display());
                super::$name(super::warehouse(&sinew_sql::Db::open(&url, 8).await.unwrap()).await).await;
            })+
        }

        /// One test, because one server is enough.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_passes_the_same_suite() {
            let server = testkit::Postgres::start(testkit::Durability::Fast).await.unwrap();
            $(
                eprintln!("{}", stringify!($name));
                let url = server.database(&format!("t{}", Uuid::now_v7().simple())).unwrap();
                let db = Db::open(&url, 8).await.unwrap();
                $name(warehouse(&db).await).await;
                db.close().await;
            )+
        }
    };
}

on_both!(
    all_lines_or_none,
    a_repeat_gets_the_first_answer,
    other_lines_under_a_used_id_are_refused,
    empty_compensation_leaves_a_tombstone_that_refuses_the_hanging_reserve,
    a_release_that_is_repeated_releases_once,
    a_refused_reservation_is_released_without_effect,
    a_hundred_concurrent_orders_never_oversell,
    the_same_order_a_hundred_times_at_once_reserves_once,
    crossing_orders_do_not_deadlock,
    reserve_and_release_at_once_leave_nothing_reserved,
    an_adjustment_is_made_once_by_key,
    concurrent_first_adjustments_are_all_counted,
    a_reserve_dropped_anywhere_can_be_repeated,
    reservations_are_listed_in_pages,
);

async fn all_lines_or_none(warehouse: SqlWarehouse) {
    let (plenty, scarce, unknown) = (stocked(&warehouse, 10).await, stocked(&warehouse, 1).await, ProductId(Uuid::now_v7()));
    let Err(Error::Insufficient(mut short)) = warehouse.reserve(order(), &lines(&[(plenty, 5), (scarce, 2), (unknown, 1)])).await
    else {
        panic!("more than the stock was reserved")
    };
    short.sort_by_key(|short| short.requested);
    assert_eq!(
        short,
        [Shortage { product: unknown, requested: 1, available: 0 }, Shortage { product: scarce, requested: 2, available: 1 }]
    );
    assert_eq!(warehouse.stock(plenty).await.unwrap().reserved, 0);
    let reserved = warehouse.reserve(order(), &lines(&[(plenty, 5), (scarce, 1)])).await.unwrap();
    assert_eq!(reserved.state, ReservationState::Reserved);
    assert_eq!(warehouse.stock(plenty).await.unwrap().available(), 5);
    assert_eq!(warehouse.stock(scarce).await.unwrap().available(), 0);
    assert!(matches!(warehouse.stock(unknown).await, Err(Error::NotFound)));
}

async fn a_repeat_gets_the_first_answer(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 5).await;
    let (lucky, late) = (order(), order());
    let first = warehouse.reserve(lucky, &lines(&[(product, 4)])).await.unwrap();
    assert_eq!(warehouse.reserve(lucky, &lines(&[(product, 4)])).await.unwrap(), first);
    assert_eq!(warehouse.stock(product).await.unwrap().reserved, 4);
    for _ in 0..2 {
        let Err(Error::Insufficient(short)) = warehouse.reserve(late, &lines(&[(product, 4)])).await else { panic!("oversold") };
        assert_eq!(short, [Shortage { product, requested: 4, available: 1 }]);
        warehouse.adjust(&adjustment(product, 100, &Uuid::now_v7().to_string())).await.unwrap();
    }
}

async fn other_lines_under_a_used_id_are_refused(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 5).await;
    let id = order();
    warehouse.reserve(id, &lines(&[(product, 1)])).await.unwrap();
    assert!(matches!(warehouse.reserve(id, &lines(&[(product, 2)])).await, Err(Error::OtherLines)));
    assert_eq!(warehouse.stock(product).await.unwrap().reserved, 1);
}

async fn empty_compensation_leaves_a_tombstone_that_refuses_the_hanging_reserve(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 5).await;
    let id = order();
    let tombstone = warehouse.release(id).await.unwrap();
    assert_eq!((tombstone.state.clone(), tombstone.lines.is_empty()), (ReservationState::Released, true));
    assert_eq!(warehouse.release(id).await.unwrap(), tombstone);
    assert!(matches!(warehouse.reserve(id, &lines(&[(product, 1)])).await, Err(Error::Released)));
    assert_eq!(warehouse.stock(product).await.unwrap().version, 1, "nothing has moved");
}

async fn a_release_that_is_repeated_releases_once(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 5).await;
    let (id, other) = (order(), order());
    warehouse.reserve(id, &lines(&[(product, 2)])).await.unwrap();
    warehouse.reserve(other, &lines(&[(product, 2)])).await.unwrap();
    let first = warehouse.release(id).await.unwrap();
    assert_eq!(warehouse.release(id).await.unwrap(), first);
    assert_eq!(warehouse.stock(product).await.unwrap().reserved, 2, "the other order's stock stays promised");
    assert!(matches!(warehouse.reserve(id, &lines(&[(product, 2)])).await, Err(Error::Released)));
}

async fn a_refused_reservation_is_released_without_effect(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 1).await;
    let id = order();
    assert!(warehouse.reserve(id, &lines(&[(product, 2)])).await.is_err());
    assert_eq!(warehouse.release(id).await.unwrap().state, ReservationState::Released);
    assert_eq!(warehouse.stock(product).await.unwrap().version, 1);
}

async fn a_hundred_concurrent_orders_never_oversell(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 30).await;
    let mut orders = JoinSet::new();
    for _ in 0..100 {
        let warehouse = warehouse.clone();
        orders.spawn(async move { warehouse.reserve(order(), &lines(&[(product, 1)])).await });
    }
    let answers = orders.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 30);
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(Error::Insufficient(_)))), "{answers:?}");
    assert_eq!(warehouse.stock(product).await.unwrap().available(), 0);
}

async fn the_same_order_a_hundred_times_at_once_reserves_once(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 30).await;
    let id = order();
    let mut repeats = JoinSet::new();
    for _ in 0..100 {
        let warehouse = warehouse.clone();
        repeats.spawn(async move { warehouse.reserve(id, &lines(&[(product, 2)])).await.unwrap() });
    }
    let answers = repeats.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(warehouse.stock(product).await.unwrap().reserved, 2);
}

async fn crossing_orders_do_not_deadlock(warehouse: SqlWarehouse) {
    let (a, b) = (stocked(&warehouse, 1_000).await, stocked(&warehouse, 1_000).await);
    let mut orders = JoinSet::new();
    for n in 0..40 {
        let warehouse = warehouse.clone();
        let wanted = if n % 2 == 0 { lines(&[(a, 1), (b, 1)]) } else { lines(&[(b, 1), (a, 1)]) };
        orders.spawn(async move {
            let id = order();
            warehouse.reserve(id, &wanted).await.unwrap();
            if n % 4 < 2 {
                warehouse.release(id).await.unwrap();
            }
        });
    }
    orders.join_all().await;
    assert_eq!(warehouse.stock(a).await.unwrap().reserved, 20);
    assert_eq!(warehouse.stock(b).await.unwrap().reserved, 20);
}

async fn reserve_and_release_at_once_leave_nothing_reserved(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 1_000).await;
    let mut calls = JoinSet::new();
    for _ in 0..25 {
        let id = order();
        for release in [false, true] {
            let warehouse = warehouse.clone();
            calls.spawn(async move {
                match release {
                    true => warehouse.release(id).await.map(drop),
                    false => warehouse.reserve(id, &lines(&[(product, 1)])).await.map(drop),
                }
            });
        }
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(Error::Released))), "{answers:?}");
    assert_eq!(warehouse.stock(product).await.unwrap().reserved, 0);
}

async fn an_adjustment_is_made_once_by_key(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 5).await;
    let first = warehouse.adjust(&adjustment(product, -2, "k")).await.unwrap();
    assert_eq!(warehouse.adjust(&adjustment(product, -2, "k")).await.unwrap(), first);
    assert_eq!(warehouse.stock(product).await.unwrap().on_hand, 3);
    assert!(matches!(warehouse.adjust(&adjustment(product, -1, "k")).await, Err(Error::KeyReused)));
    let theirs = Adjustment { caller: Caller("another".into()), ..adjustment(product, -1, "k") };
    assert_eq!(warehouse.adjust(&theirs).await.unwrap().on_hand, 2);
    let refused = warehouse.adjust(&adjustment(product, -3, "too much")).await;
    assert!(matches!(refused, Err(Error::Adjust(AdjustError::Insufficient { available: 2 }))), "{refused:?}");
}

async fn concurrent_first_adjustments_are_all_counted(warehouse: SqlWarehouse) {
    let product = ProductId(Uuid::now_v7());
    let mut calls = JoinSet::new();
    for n in 0..40 {
        let warehouse = warehouse.clone();
        // Each key twice.
        calls.spawn(async move { warehouse.adjust(&adjustment(product, 1, &(n / 2).to_string())).await.unwrap() });
    }
    calls.join_all().await;
    let stock = warehouse.stock(product).await.unwrap();
    assert_eq!((stock.on_hand, stock.version), (20, 20));
}

async fn a_reserve_dropped_anywhere_can_be_repeated(warehouse: SqlWarehouse) {
    let product = stocked(&warehouse, 1_000).await;
    for polls in 0..40 {
        let id = order();
        let wanted = lines(&[(product, 1)]);
        let mut left = polls;
        let mut call = Box::pin(warehouse.reserve(id, &wanted));
        std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Pending if left > 0 => {
                left -= 1;
                Poll::Pending
            }
            // Answered, or to be dropped wherever it is.
            _ => Poll::Ready(()),
        })
        .await;
        drop(call);
        assert!(warehouse.reserve(id, &wanted).await.is_ok(), "dropped after {polls} polls");
    }
    assert_eq!(warehouse.stock(product).await.unwrap().reserved, 40);
}

async fn reservations_are_listed_in_pages(warehouse: SqlWarehouse) {
    let (a, b) = (stocked(&warehouse, 100).await, stocked(&warehouse, 1).await);
    let mut ids = BTreeSet::new();
    for n in 0..7 {
        let id = order();
        match n {
            0 => drop(warehouse.release(id).await.unwrap()),
            1 => drop(warehouse.reserve(id, &lines(&[(a, 1), (b, 2)])).await.unwrap_err()),
            _ => drop(warehouse.reserve(id, &lines(&[(a, 1)])).await.unwrap()),
        }
        ids.insert(id);
    }
    let mut seen = Vec::new();
    let mut page = Page { state: None, after: None, limit: 3 };
    loop {
        let found = warehouse.reservations(page).await.unwrap();
        let Some(last) = found.last() else { break };
        page.after = Some(last.id);
        seen.extend(found);
    }
    assert_eq!(seen.iter().map(|found| found.id).collect::<Vec<_>>(), ids.iter().copied().collect::<Vec<_>>());
    assert!(seen[0].lines.is_empty());
    assert_eq!(seen[1].state, ReservationState::Refused(vec![Shortage { product: b, requested: 2, available: 1 }]));
    assert_eq!(seen[1].lines, lines(&[(a, 1), (b, 2)]));
    let refused = Page { state: Some(StateName::Refused), after: None, limit: 3 };
    assert_eq!(warehouse.reservations(refused).await.unwrap(), [seen[1].clone()]);
}
