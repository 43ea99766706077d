//! Charging and refunding under every interleaving and every death we can think of.
//!
//! Books and provider are plain maps that give way before and after each effect, and a seeded scheduler decides which
//! call moves next and which is dropped: a dropped future is a killed process, for nothing of it runs any more.

use super::*;
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use sinew_core::SystemClock;
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};
use tokio::task::yield_now;
use uuid::Uuid;

const EPOCH: DateTime<Utc> = DateTime::<Utc>::UNIX_EPOCH;

#[derive(Debug, Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<PaymentId, Payment>>>);

impl Shelf {
    async fn change<R>(&self, with: impl FnOnce(&mut BTreeMap<PaymentId, Payment>) -> R) -> R {
        yield_now().await;
        let answer = with(&mut self.0.lock().unwrap());
        yield_now().await;
        answer
    }
}

impl Books for Shelf {
    async fn open(&self, charge: &Charge) -> Result<Opened, Error> {
        let (new, payment) = self
            .change(|all| (!all.contains_key(&charge.id), all.entry(charge.id).or_insert(Payment::pending(charge, EPOCH)).clone()))
            .await;
        Ok(Opened { payment, new })
    }
    async fn open_refund(&self, id: PaymentId) -> Result<Payment, Error> {
        let refund = |all: &mut BTreeMap<_, Payment>| {
            let payment = all.entry(id).or_insert(Payment::tombstone(id, EPOCH));
            *payment = payment.refunding(EPOCH).unwrap_or(payment.clone());
            payment.clone()
        };
        Ok(self.change(refund).await)
    }
    async fn record(&self, next: &Payment) -> Result<Payment, Error> {
        let record = |all: &mut BTreeMap<_, Payment>| {
            let payment = all.get_mut(&next.id).unwrap();
            if payment.version + 1 == next.version {
                *payment = next.clone();
            }
            payment.clone()
        };
        Ok(self.change(record).await)
    }
    async fn get(&self, id: PaymentId) -> Result<Payment, Error> {
        self.change(|all| all.get(&id).cloned()).await.ok_or(Error::NotFound)
    }
    async fn list(&self, _: Page) -> Result<Vec<Payment>, Error> {
        Ok(self.change(|all| all.values().cloned().collect()).await)
    }
}

/// What the bank knows of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Account {
    held: i64,
    taken: u32,
    charges: u32,
    finds: u32,
    declined: bool,
    closed: bool,
}

#[derive(Debug, Clone, Default)]
struct Bank {
    accounts: Arc<Mutex<BTreeMap<PaymentId, Account>>>,
    silent: Arc<Mutex<u32>>,
    down: Arc<Mutex<bool>>,
}

impl Bank {
    fn account(&self, id: PaymentId) -> Account {
        self.accounts.lock().unwrap().get(&id).copied().unwrap_or_default()
    }
    async fn change<R>(&self, id: PaymentId, with: impl FnOnce(&mut Account) -> R) -> Result<R, ProviderError> {
        yield_now().await;
        if *self.down.lock().unwrap() {
            return Err(ProviderError::Unavailable("down".into()));
        }
        let answer = with(self.accounts.lock().unwrap().entry(id).or_default());
        yield_now().await;
        Ok(answer)
    }
}

fn outcome(account: &Account) -> Option<Outcome> {
    match account {
        Account { closed: true, .. } => Some(Outcome::Closed),
        Account { declined: true, .. } => Some(Outcome::Declined { reason: "card_declined".into() }),
        Account { taken: 1.., .. } => Some(Outcome::Taken { reference: "ch_1".into() }),
        _ => None,
    }
}

impl Provider for Bank {
    async fn charge(&self, charge: &Charge) -> Result<Outcome, ProviderError> {
        let take = |account: &mut Account| {
            account.charges += 1;
            outcome(account).unwrap_or_else(|| {
                if charge.token.0 == "tok_declined" {
                    account.declined = true;
                    return Outcome::Declined { reason: "card_declined".into() };
                }
                account.taken += 1;
                account.held += charge.money.minor_units();
                Outcome::Taken { reference: "ch_1".into() }
            })
        };
        let answer = self.change(charge.id, take).await?;
        let silent = {
            let mut silent = self.silent.lock().unwrap();
            let now = *silent > 0;
            *silent = silent.saturating_sub(1);
            now
        };
        if silent { std::future::pending().await } else { Ok(answer) }
    }
    async fn find(&self, key: PaymentId) -> Result<Option<Outcome>, ProviderError> {
        self.change(key, |account| {
            account.finds += 1;
            outcome(account)
        })
        .await
    }
    async fn undo(&self, key: PaymentId) -> Result<Undone, ProviderError> {
        self.change(key, |account| {
            account.closed = true;
            account.held = 0;
            if account.taken > 0 { Undone::Returned } else { Undone::NothingTaken }
        })
        .await
    }
}

fn cashier() -> (Shelf, Bank, Cashier<Shelf, Bank>) {
    let (shelf, bank) = (Shelf::default(), Bank::default());
    (shelf.clone(), bank.clone(), Cashier::new(shelf, bank, Arc::new(SystemClock)))
}

fn charge(token: &str) -> Charge {
    Charge {
        id: PaymentId(Uuid::from_u128(7)),
        customer: CustomerId(Uuid::from_u128(8)),
        money: Money::new(1_250, "EUR").unwrap(),
        token: Token(token.into()),
    }
}

#[tokio::test]
async fn a_repeat_is_answered_from_the_books() {
    let (_, bank, cashier) = cashier();
    let first = cashier.charge(&charge("tok_ok")).await.unwrap();
    let again = cashier.charge(&charge("tok_ok")).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(bank.account(first.id).charges, 1);
    let other = Charge { money: Money::new(1, "EUR").unwrap(), ..charge("tok_ok") };
    assert!(matches!(cashier.charge(&other).await, Err(Error::OtherCharge)));
    assert!(matches!(cashier.charge(&charge("tok_other")).await, Err(Error::OtherCharge)));
}

#[tokio::test]
async fn a_declined_card_stays_declined_and_its_refund_changes_nothing() {
    let (_, bank, cashier) = cashier();
    for _ in 0..2 {
        assert!(matches!(cashier.charge(&charge("tok_declined")).await, Err(Error::Declined { .. })));
    }
    let refunded = cashier.refund(charge("").id).await.unwrap();
    assert!(matches!(refunded.state, PaymentState::Declined { .. }));
    assert_eq!(bank.account(refunded.id).charges, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_provider_is_looked_up_and_never_asked_to_charge_twice() {
    let (_, bank, cashier) = cashier();
    *bank.silent.lock().unwrap() = 1;
    let paid = cashier.charge(&charge("tok_ok")).await.unwrap();
    assert!(matches!(paid.state, PaymentState::Charged { .. }));
    let account = bank.account(paid.id);
    assert_eq!((account.taken, account.charges, account.finds), (1, 1, 1));
}

#[tokio::test]
async fn a_provider_that_is_down_leaves_an_intent_that_a_repeat_completes() {
    let (shelf, bank, cashier) = cashier();
    *bank.down.lock().unwrap() = true;
    assert!(matches!(cashier.charge(&charge("tok_ok")).await, Err(Error::Provider(ProviderError::Unavailable(_)))));
    assert_eq!(shelf.get(charge("").id).await.unwrap().state, PaymentState::Pending);
    *bank.down.lock().unwrap() = false;
    assert!(cashier.charge(&charge("tok_ok")).await.is_ok());
    assert_eq!(bank.account(charge("").id).held, 1_250);
}

#[tokio::test]
async fn empty_compensation_then_hanging_charge_is_refused() {
    let (_, bank, cashier) = cashier();
    let voided = cashier.refund(charge("").id).await.unwrap();
    assert_eq!(voided.state, PaymentState::Voided);
    assert!(matches!(cashier.charge(&charge("tok_ok")).await, Err(Error::Refunded)));
    assert_eq!(bank.account(voided.id), Account::default());
    assert_eq!(cashier.refund(voided.id).await.unwrap(), voided);
}

/// Polls a call so many times and drops it: the process that made it is dead.
fn killed_after<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = std::pin::pin!(call);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match call.as_mut().poll(&mut context) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    })
}

#[tokio::test]
async fn killed_at_any_await_of_charge_a_repeat_charges_once() {
    for polls in 0.. {
        let (_, bank, cashier) = cashier();
        let whole = killed_after(polls, cashier.charge(&charge("tok_ok"))).is_some();
        let paid = cashier.charge(&charge("tok_ok")).await.unwrap();
        assert!(matches!(paid.state, PaymentState::Charged { .. }), "{polls}");
        let account = bank.account(paid.id);
        assert_eq!((account.taken, account.charges, account.held), (1, 1, 1_250), "killed after {polls} polls");
        if whole {
            assert!(polls > 5, "the simulation never stopped inside the call");
            break;
        }
    }
}

#[tokio::test]
async fn killed_at_any_await_of_charge_or_refund_a_repeated_refund_leaves_nothing_taken() {
    for (charge_polls, refund_polls) in (0..12).flat_map(|c| (0..12).map(move |r| (c, r))) {
        let (_, bank, cashier) = cashier();
        let _ = killed_after(charge_polls, cashier.charge(&charge("tok_ok")));
        let _ = killed_after(refund_polls, cashier.refund(charge("").id));
        let refunded = cashier.refund(charge("").id).await.unwrap();
        assert!(matches!(refunded.state, PaymentState::Refunded | PaymentState::Voided));
        let late = cashier.charge(&charge("tok_ok")).await;
        assert!(matches!(late, Err(Error::Refunded)), "{late:?}");
        let account = bank.account(refunded.id);
        assert_eq!(account.held, 0, "killed after {charge_polls} and {refund_polls} polls");
        assert_eq!(account.taken > 0, refunded.state == PaymentState::Refunded);
    }
}

/// One of the calls under way, and what the scheduler does with it.
type Call<'a> = Pin<Box<dyn Future<Output = Result<Payment, Error>> + 'a>>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Three charges and a refund of one payment, on as many replicas, interleaved and killed at will: in the end books
    /// and bank agree, and money was taken at most once.
    #[test]
    fn books_and_bank_agree_after_any_interleaving(
        moves in proptest::collection::vec((0usize..4, 0u8..20), 0..120), declined in any::<bool>(), refund in any::<bool>()
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _time = runtime.enter();
        let (shelf, bank, cashier) = cashier();
        let wanted = charge(if declined { "tok_declined" } else { "tok_ok" });
        let start = |n: usize| -> Call<'_> {
            if n == 3 { Box::pin(cashier.refund(wanted.id)) } else { Box::pin(cashier.charge(&wanted)) }
        };
        let mut calls: Vec<Call<'_>> = (0..4).map(start).collect();
        let mut context = Context::from_waker(Waker::noop());
        for (n, fate) in moves {
            if n == 3 && !refund {
                continue;
            }
            // One move in twenty is a kill.
            if fate == 0 || calls[n].as_mut().poll(&mut context).is_ready() {
                calls[n] = start(n);
            }
        }
        drop(calls);
        let last = runtime.block_on(async {
            let _ = if refund { cashier.refund(wanted.id).await } else { cashier.charge(&wanted).await };
            shelf.get(wanted.id).await
        }).unwrap();
        let account = bank.account(wanted.id);
        prop_assert!(account.taken <= 1);
        let expected = match last.state {
            PaymentState::Charged { .. } => wanted.money.minor_units(),
            PaymentState::Declined { .. } | PaymentState::Refunded | PaymentState::Voided => 0,
            PaymentState::Pending | PaymentState::Refunding => return Err(TestCaseError::fail("not terminal")),
        };
        prop_assert_eq!(account.held, expected, "{:?}", last);
        let charged = matches!(last.state, PaymentState::Charged { .. });
        prop_assert!(!(refund && charged));
    }
}
