//! The rules of carts, prices and states.

use super::*;
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

fn product(n: u128, amount: i64, currency: &str) -> Product {
    let price = Money { amount, currency: Currency::parse(currency).unwrap() };
    Product { id: ProductId(Uuid::from_u128(n)), name: format!("product {n}"), price, version: 1 }
}

fn line(n: u128, quantity: i64) -> CartLine {
    CartLine { product: ProductId(Uuid::from_u128(n)), quantity }
}

fn price(lines: &[CartLine], products: &[Product]) -> Result<Order, Error> {
    let customer = Customer { id: CustomerId(Uuid::from_u128(1)), name: "Ann".into(), version: 1 };
    Cart::new(lines.to_vec()).unwrap().price(OrderId(Uuid::from_u128(2)), &customer, products, DateTime::UNIX_EPOCH)
}

#[test]
fn carts_are_bounded_and_name_each_product_once() {
    assert_eq!(Cart::new(vec![]), Err(CartError::Empty));
    assert_eq!(Cart::new((0..101).map(|n| line(n, 1)).collect()), Err(CartError::TooMany));
    for quantity in [i64::MIN, -1, 0, 1_001, i64::MAX] {
        assert_eq!(Cart::new(vec![line(1, 1), line(2, quantity)]), Err(CartError::Quantity(1)));
    }
    assert_eq!(Cart::new(vec![line(1, 1), line(2, 1), line(1, 1)]), Err(CartError::Repeated(2)));
    assert!(Cart::new((0..100).map(|n| line(n, 1_000)).collect()).is_ok());
}

#[test]
fn all_unknown_products_are_named() {
    let error = price(&[line(1, 1), line(2, 1), line(3, 1)], &[product(2, 5, "EUR")]).unwrap_err();
    assert!(matches!(error, Error::ProductUnknown(ids) if ids == [line(1, 1).product, line(3, 1).product]));
}

#[test]
fn one_order_has_one_currency() {
    let products = [product(1, 5, "EUR"), product(2, 5, "USD")];
    assert!(matches!(price(&[line(1, 1), line(2, 1)], &products), Err(Error::MixedCurrencies)));
}

#[test]
fn a_total_past_the_largest_amount_is_refused() {
    let largest = [product(1, i64::MAX, "EUR"), product(2, 1, "EUR")];
    assert_eq!(price(&[line(1, 1)], &largest).unwrap().total.amount, i64::MAX);
    assert!(matches!(price(&[line(1, 2)], &largest), Err(Error::TotalTooLarge)));
    assert!(matches!(price(&[line(1, 1), line(2, 1)], &largest), Err(Error::TotalTooLarge)));
}

#[test]
fn currencies_are_three_capital_letters() {
    for bad in ["", "EU", "EURO", "eur", "E1R", "€€"] {
        assert_eq!(Currency::parse(bad), None, "{bad}");
    }
    assert_eq!(Currency::parse("EUR").unwrap().to_string(), "EUR");
}

#[test]
fn users_see_their_own_orders_and_administrators_all() {
    let (ann, bob) = (CustomerId(Uuid::from_u128(1)), CustomerId(Uuid::from_u128(2)));
    let user = Caller { id: ann, admin: false };
    assert!(user.may_see(ann) && !user.may_see(bob) && Caller { admin: true, ..user }.may_see(bob));
}

fn progress() -> impl Strategy<Value = Progress> {
    let reason = || prop_oneof![Just(FailureReason::Cancelled), Just(FailureReason::PaymentDeclined)];
    prop_oneof![
        Just(Progress::Processing),
        Just(Progress::Completed),
        reason().prop_map(|reason| Progress::Compensating(reason, String::new())),
        reason().prop_map(|reason| Progress::Failed(reason, String::new())),
    ]
}

proptest! {
    /// Whatever the saga says and however often: an end is for ever, a reason comes with every failure, versions count
    /// changes.
    #[test]
    fn an_order_ends_once(said in prop::collection::vec(progress(), 0..12)) {
        let mut order = price(&[line(1, 1)], &[product(1, 5, "EUR")]).unwrap();
        for (second, progress) in (1..).zip(said) {
            let before = order.clone();
            let changed = order.advance(progress, DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(second));
            prop_assert_eq!(changed, order != before);
            prop_assert_eq!(order.version, before.version + i64::from(changed));
            prop_assert!(!changed || !matches!(before.state, OrderState::Completed | OrderState::Failed));
            let failing = matches!(order.state, OrderState::Compensating | OrderState::Failed);
            prop_assert_eq!(order.failure.is_some(), failing);
        }
    }

    #[test]
    fn a_total_is_the_sum_of_its_lines(lines in prop::collection::vec((1i64..1_000_000, 1i64..=1_000), 1..=100)) {
        let products: Vec<_> = lines.iter().zip(0..).map(|((amount, _), n)| product(n, *amount, "EUR")).collect();
        let cart: Vec<_> = lines.iter().zip(0..).map(|((_, quantity), n)| line(n, *quantity)).collect();
        let total: i64 = lines.iter().map(|(amount, quantity)| amount * quantity).sum();
        prop_assert_eq!(price(&cart, &products).unwrap().total.amount, total);
    }
}
