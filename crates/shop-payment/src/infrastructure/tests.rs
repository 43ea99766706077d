//! One suite for books and provider, run on SQLite and on PostgreSQL, with replicas and with deaths.

use super::*;
use crate::domain::*;
use sinew_core::SystemClock;
use sinew_events::Outbox;
use sinew_sql::Db;
use std::{sync::Arc, task::Poll};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Two replicas of the service: connections of their own to the same store and the same bank.
struct Shop {
    replicas: [Arc<Cashier<SqlBooks, EmbeddedProvider>>; 2],
    ledger: Db,
}

async fn replica(books: &Db, ledger: &Db) -> Arc<Cashier<SqlBooks, EmbeddedProvider>> {
    let clock = Arc::new(SystemClock);
    let books = SqlBooks::new(books.clone(), Outbox::default(), clock.clone());
    Arc::new(Cashier::new(books, EmbeddedProvider::new(ledger.clone(), clock.clone()), clock))
}

async fn shop(books: &str, bank: &str) -> Shop {
    let open = async |url: &str| Db::open(url, 4).await.unwrap();
    let (first, second, ledger) = (open(books).await, open(books).await, open(bank).await);
    first.migrate(&sinew_events::migrations()).await.unwrap();
    first.migrate(&migrations()).await.unwrap();
    ledger.migrate(&provider_migrations()).await.unwrap();
    Shop { replicas: [replica(&first, &ledger).await, replica(&second, &open(bank).await).await], ledger }
}

impl Shop {
    async fn entry(&self, id: PaymentId) -> Option<LedgerEntry> {
        read_ledger(&self.ledger).await.unwrap().into_iter().find(|entry| entry.payment == id)
    }
}

fn charge(token: &str) -> Charge {
    Charge {
        id: PaymentId(Uuid::now_v7()),
        customer: CustomerId(Uuid::now_v7()),
        money: Money::new(1_999, "EUR").unwrap(),
        token: Token(token.into()),
    }
}

/// Polls a call so many times, each time when it asks to be, and then drops it.
async fn killed_after<T>(mut polls: u32, call: impl Future<Output = T>) -> Option<T> {
    let mut call = Box::pin(call);
    std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if polls == 0 => Poll::Ready(None),
        Poll::Pending => {
            polls -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Runs each test on both databases, each on an empty one.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let config = crate::Config::in_folder(folder.path());
                super::$name(super::shop(&config.database_url, &config.provider_url).await).await;
            })+
        }

        /// One test, because one server is enough.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_passes_the_same_suite() {
            let server = testkit::Postgres::start(testkit::Durability::Fast).await.unwrap();
            let database = || server.database(&format!("t{}", Uuid::now_v7().simple())).unwrap();
            $(
                eprintln!("{}", stringify!($name));
                $name(shop(&database(), &database()).await).await;
            )+
        }
    };
}

on_both!(
    what_was_written_is_read_back,
    replicas_that_charge_at_once_take_the_money_once,
    a_charge_dropped_anywhere_is_completed_by_the_other_replica,
    a_refund_dropped_anywhere_is_completed_by_the_other_replica,
    charges_and_refunds_at_once_leave_books_and_bank_agreed,
    a_refund_of_what_never_was_refuses_the_hanging_charge,
    an_undone_key_never_takes_money,
);

async fn what_was_written_is_read_back(shop: Shop) {
    let [a, b] = &shop.replicas;
    for token in ["tok_ok", "tok_timeout"] {
        let wanted = charge(token);
        let paid = a.charge(&wanted).await.unwrap();
        assert_eq!(b.get(wanted.id).await.unwrap(), paid);
        assert_eq!(b.charge(&wanted).await.unwrap(), paid);
        let refunded = b.refund(wanted.id).await.unwrap();
        assert_eq!(a.get(wanted.id).await.unwrap(), refunded);
        assert_eq!((paid.version, refunded.version, refunded.state), (2, 4, PaymentState::Refunded));
    }
    assert!(matches!(a.charge(&charge("tok_nonsense")).await, Err(Error::Declined { reason }) if reason == "unknown_token"));
    assert!(matches!(a.get(charge("").id).await, Err(Error::NotFound)));
}

async fn replicas_that_charge_at_once_take_the_money_once(shop: Shop) {
    for token in ["tok_ok", "tok_timeout"] {
        let wanted = charge(token);
        let mut calls = JoinSet::new();
        for n in 0..20 {
            let (replica, wanted) = (shop.replicas[n % 2].clone(), wanted.clone());
            calls.spawn(async move { replica.charge(&wanted).await.unwrap() });
        }
        let answers = calls.join_all().await;
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        let entry = shop.entry(wanted.id).await.unwrap();
        assert_eq!((entry.takings, entry.held), (1, 1_999));
    }
}

async fn a_charge_dropped_anywhere_is_completed_by_the_other_replica(shop: Shop) {
    let [a, b] = &shop.replicas;
    let mut dropped = 0;
    for polls in 0.. {
        let wanted = charge("tok_timeout");
        let whole = killed_after(polls, a.charge(&wanted)).await.is_some();
        let paid = b.charge(&wanted).await.unwrap();
        assert!(matches!(paid.state, PaymentState::Charged { .. }), "dropped after {polls} polls");
        let entry = shop.entry(wanted.id).await.unwrap();
        assert_eq!((entry.takings, entry.held), (1, 1_999), "dropped after {polls} polls");
        // An answer that is there by the next poll takes a poll less: one that was whole early says nothing yet.
        dropped += u32::from(!whole);
        if whole && dropped > 3 {
            break;
        }
        assert!(polls < 200, "dropped {dropped} times, and never came to its end after that");
    }
}

async fn a_refund_dropped_anywhere_is_completed_by_the_other_replica(shop: Shop) {
    let [a, b] = &shop.replicas;
    let mut dropped = 0;
    for polls in 0.. {
        let wanted = charge("tok_ok");
        a.charge(&wanted).await.unwrap();
        let whole = killed_after(polls, a.refund(wanted.id)).await.is_some();
        assert_eq!(b.refund(wanted.id).await.unwrap().state, PaymentState::Refunded, "dropped after {polls} polls");
        let entry = shop.entry(wanted.id).await.unwrap();
        assert_eq!((entry.takings, entry.held, entry.state), (1, 0, LedgerState::Returned));
        // An answer that is there by the next poll takes a poll less: one that was whole early says nothing yet.
        dropped += u32::from(!whole);
        if whole && dropped > 3 {
            break;
        }
        assert!(polls < 200, "dropped {dropped} times, and never came to its end after that");
    }
}

async fn charges_and_refunds_at_once_leave_books_and_bank_agreed(shop: Shop) {
    let mut calls = JoinSet::new();
    let wanted: Vec<_> = (0..20).map(|_| charge("tok_ok")).collect();
    for charge in &wanted {
        let ([a, b], mine, id) = (shop.replicas.clone(), charge.clone(), charge.id);
        calls.spawn(async move { a.charge(&mine).await.map(drop) });
        calls.spawn(async move { b.refund(id).await.map(drop) });
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(Error::Refunded))), "{answers:?}");
    for charge in &wanted {
        let payment = shop.replicas[0].get(charge.id).await.unwrap();
        let (takings, held) = shop.entry(charge.id).await.map_or((0, 0), |entry| (entry.takings, entry.held));
        assert_eq!(held, 0, "{payment:?}");
        assert_eq!(payment.state == PaymentState::Refunded, takings == 1, "{payment:?}");
    }
}

async fn a_refund_of_what_never_was_refuses_the_hanging_charge(shop: Shop) {
    let [a, b] = &shop.replicas;
    let wanted = charge("tok_ok");
    let voided = a.refund(wanted.id).await.unwrap();
    assert_eq!(voided.state, PaymentState::Voided);
    assert!(matches!(b.charge(&wanted).await, Err(Error::Refunded)));
    assert_eq!(b.refund(wanted.id).await.unwrap(), voided);
    assert_eq!(shop.entry(wanted.id).await, None, "the bank was never asked");
}

async fn an_undone_key_never_takes_money(shop: Shop) {
    let bank = EmbeddedProvider::new(shop.ledger.clone(), Arc::new(SystemClock));
    let wanted = charge("tok_ok");
    for _ in 0..2 {
        assert_eq!(bank.undo(wanted.id).await.unwrap(), Undone::NothingTaken);
        assert_eq!(bank.charge(&wanted).await.unwrap(), Outcome::Closed);
    }
    let taken = charge("tok_ok");
    bank.charge(&taken).await.unwrap();
    for _ in 0..2 {
        assert_eq!(bank.undo(taken.id).await.unwrap(), Undone::Returned);
        assert_eq!(bank.find(taken.id).await.unwrap(), Some(Outcome::Closed));
    }
    assert_eq!(shop.entry(taken.id).await.unwrap().held, 0);
}
