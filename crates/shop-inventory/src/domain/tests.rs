//! The rules, by cases and by random histories against a plain model.

use super::*;
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

fn product(n: u128) -> ProductId {
    ProductId(Uuid::from_u128(n))
}

fn lines(of: &[(u128, i64)]) -> Lines {
    Lines::new(of.iter().map(|(n, quantity)| Line { product: product(*n), quantity: *quantity })).unwrap()
}

fn stock(n: u128, on_hand: i64, reserved: i64) -> Stock {
    Stock { product: product(n), on_hand, reserved, version: 1 }
}

fn reservation(lines: Lines, state: ReservationState) -> Reservation {
    Reservation {
        id: ReservationId(Uuid::nil()),
        lines,
        state,
        created: DateTime::<Utc>::UNIX_EPOCH,
        updated: DateTime::<Utc>::UNIX_EPOCH,
    }
}

#[test]
fn lines_are_sorted_and_each_product_comes_once() {
    let sorted = lines(&[(3, 1), (1, 2), (2, 3)]);
    assert_eq!(sorted.iter().map(|line| line.product).collect::<Vec<_>>(), [product(1), product(2), product(3)]);
    let line = |n, quantity| Line { product: product(n), quantity };
    assert_eq!(Lines::new([]), Err(LinesError::Empty));
    assert_eq!(Lines::new([line(1, 1), line(1, 2)]), Err(LinesError::Repeated(1)));
    for bad in [0, -1, i64::MIN, MAX_QUANTITY + 1] {
        assert_eq!(Lines::new([line(1, 1), line(2, bad)]), Err(LinesError::Quantity(1)), "{bad}");
    }
    assert_eq!(Lines::new((0..=Lines::MAX as u128).map(|n| line(n, 1))), Err(LinesError::TooMany));
}

#[test]
fn one_short_line_refuses_all_and_names_each_shortage() {
    let decision = reserve(None, &lines(&[(1, 5), (2, 5), (3, 1)]), &[stock(1, 5, 0), stock(2, 5, 1)]);
    let Decision::Write(levels, ReservationState::Refused(short)) = decision else { panic!("{decision:?}") };
    assert_eq!(levels, []);
    assert_eq!(
        short,
        [
            Shortage { product: product(2), requested: 5, available: 4 },
            Shortage { product: product(3), requested: 1, available: 0 },
        ]
    );
}

#[test]
fn a_refusal_is_repeated_even_when_goods_have_arrived() {
    let wanted = lines(&[(1, 5)]);
    let short = vec![Shortage { product: product(1), requested: 5, available: 0 }];
    let before = reservation(wanted.clone(), ReservationState::Refused(short));
    assert_eq!(reserve(Some(&before), &wanted, &[stock(1, 100, 0)]), Decision::Unchanged);
}

#[test]
fn other_lines_under_a_used_id_are_refused() {
    let before = reservation(lines(&[(1, 5)]), ReservationState::Reserved);
    assert_eq!(reserve(Some(&before), &lines(&[(1, 6)]), &[stock(1, 100, 0)]), Decision::OtherLines);
}

#[test]
fn an_adjustment_never_takes_what_is_promised() {
    assert_eq!(stock(1, 10, 4).adjusted(-6).map(|level| level.available()), Ok(0));
    assert_eq!(stock(1, 10, 4).adjusted(-7), Err(AdjustError::Insufficient { available: 6 }));
    assert_eq!(stock(1, MAX_ON_HAND, 0).adjusted(1), Err(AdjustError::Overflow));
    assert_eq!(stock(1, 1, 0).adjusted(i64::MAX), Err(AdjustError::Overflow));
    assert_eq!(stock(1, 1, 0).adjusted(i64::MIN), Err(AdjustError::Insufficient { available: 1 }));
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(u128, Vec<(u128, i64)>),
    Release(u128),
    Adjust(u128, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let order = 0u128..4;
    let wanted = proptest::collection::btree_map(0u128..3, 1i64..6, 1..3).prop_map(|m| m.into_iter().collect());
    prop_oneof![
        (order.clone(), wanted).prop_map(|(id, of)| Step::Reserve(id, of)),
        order.prop_map(Step::Release),
        (0u128..3, -8i64..8).prop_map(|(n, delta)| Step::Adjust(n, delta)),
    ]
}

proptest! {
    /// Whatever arrives in whatever order, what is promised is exactly what the reserved reservations hold, nothing is
    /// negative, and a released reservation stays released.
    #[test]
    fn promised_is_what_reservations_hold(history in proptest::collection::vec(step(), 0..60)) {
        let mut levels: BTreeMap<ProductId, Stock> = BTreeMap::new();
        let mut orders: BTreeMap<u128, Reservation> = BTreeMap::new();
        for step in history {
            let all: Vec<Stock> = levels.values().copied().collect();
            let (id, wanted, decision) = match step {
                Step::Reserve(id, of) => {
                    let wanted = lines(&of);
                    let decision = reserve(orders.get(&id), &wanted, &all);
                    (id, Some(wanted), decision)
                }
                Step::Release(id) => (id, None, release(orders.get(&id), &all)),
                Step::Adjust(n, delta) => {
                    let level = levels.get(&product(n)).copied().unwrap_or_else(|| Stock::empty(product(n)));
                    if let Ok(level) = level.adjusted(delta) {
                        levels.insert(level.product, level);
                    }
                    continue;
                }
            };
            if let Decision::Write(changed, state) = decision {
                prop_assert_ne!(orders.get(&id).map(|order| &order.state), Some(&ReservationState::Released));
                levels.extend(changed.into_iter().map(|level| (level.product, level)));
                let lines = orders.get(&id).map(|order| order.lines.clone()).or(wanted).unwrap_or_default();
                orders.insert(id, reservation(lines, state));
            }
            for level in levels.values() {
                prop_assert!(0 <= level.reserved && level.reserved <= level.on_hand, "{:?}", level);
                let held: i64 = orders.values().filter(|order| order.state == ReservationState::Reserved)
                    .flat_map(|order| order.lines.iter()).filter(|line| line.product == level.product)
                    .map(|line| line.quantity).sum();
                prop_assert_eq!(level.reserved, held);
            }
        }
    }
}
