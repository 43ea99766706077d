//! The checker: what the bank, payments, reservations, stock and orders say must be one story.

mod collect;

pub use collect::orders;

use contracts::{
    inventory::v1::{Reservation, ReservationState, Stock},
    order::v1::{Order, OrderState},
    payment::v1::{Payment, PaymentState},
};
use shop_payment::{LedgerEntry, LedgerState};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Everything that everybody holds, at a moment when nothing is under way.
#[derive(Debug, Default)]
pub struct Books {
    /// What was ordered.
    pub orders: Vec<Order>,
    /// What the payment service holds.
    pub payments: Vec<Payment>,
    /// What the bank holds.
    pub ledger: Vec<LedgerEntry>,
    /// What is kept for whom.
    pub reservations: Vec<Reservation>,
    /// What lies on the shelves.
    pub stock: Vec<Stock>,
    /// What lay on the shelf before the first order.
    pub on_hand: BTreeMap<String, i64>,
}

/// What there is for each order.
struct Index<'a> {
    payments: HashMap<&'a str, &'a Payment>,
    ledger: HashMap<String, &'a LedgerEntry>,
    reservations: HashMap<&'a str, &'a Reservation>,
}

impl Books {
    /// Every contradiction, in words.
    pub fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        let orders: BTreeSet<_> = self.orders.iter().map(|o| o.order_id.as_str()).collect();
        let by_order = Index {
            payments: self.payments.iter().map(|p| (p.payment_id.as_str(), p)).collect(),
            ledger: self.ledger.iter().map(|e| (e.payment.0.to_string(), e)).collect(),
            reservations: self.reservations.iter().map(|r| (r.reservation_id.as_str(), r)).collect(),
        };
        for order in &self.orders {
            by_order.check_order(order, &mut found);
        }
        for payment in &self.payments {
            if !orders.contains(payment.payment_id.as_str()) {
                found.push(format!("payment {} belongs to no order", payment.payment_id));
            }
        }
        for entry in &self.ledger {
            let id = entry.payment.0.to_string();
            if entry.takings > 1 {
                found.push(format!("the bank took the money for {id} {} times", entry.takings));
            }
            if !orders.contains(id.as_str()) {
                found.push(format!("the bank knows {id}, which is no order"));
            }
        }
        for reservation in &self.reservations {
            if !orders.contains(reservation.reservation_id.as_str()) {
                found.push(format!("reservation {} belongs to no order", reservation.reservation_id));
            }
        }
        self.check_stock(&mut found);
        found
    }

    fn check_stock(&self, found: &mut Vec<String>) {
        let mut reserved: BTreeMap<&str, i64> = BTreeMap::new();
        let kept = self.reservations.iter().filter(|r| r.state() == ReservationState::Reserved);
        for line in kept.flat_map(|r| &r.lines) {
            *reserved.entry(&line.product_id).or_default() += line.quantity;
        }
        for stock in &self.stock {
            let expected = reserved.get(stock.product_id.as_str()).copied().unwrap_or(0);
            if stock.reserved != expected {
                found.push(format!("{} of {} are reserved, reservations say {expected}", stock.reserved, stock.product_id));
            }
            let before = self.on_hand.get(&stock.product_id).copied().unwrap_or(0);
            if stock.on_hand != before || stock.available != stock.on_hand - stock.reserved {
                found.push(format!("stock of {} does not add up from {before}: {stock:?}", stock.product_id));
            }
        }
    }
}

impl Index<'_> {
    fn check_order(&self, order: &Order, found: &mut Vec<String>) {
        let id = &order.order_id;
        let total = order.total.as_ref().map_or(0, |m| m.amount);
        let payment = self.payments.get(id.as_str()).map(|p| p.state());
        let entry = self.ledger.get(id.as_str()).copied();
        let held = entry.map_or(0, |e| e.held);
        let reservation = self.reservations.get(id.as_str()).copied();
        let kept = reservation.map(|r| r.state());
        match order.state() {
            OrderState::Completed => {
                if payment != Some(PaymentState::Charged) {
                    found.push(format!("order {id} is completed, its payment {payment:?}"));
                }
                if entry.map(|e| e.state) != Some(LedgerState::Taken) || held != total {
                    found.push(format!("order {id} over {total} is completed, the bank holds {held}: {entry:?}"));
                }
                if kept != Some(ReservationState::Reserved) {
                    found.push(format!("order {id} is completed, its reservation {kept:?}"));
                }
                let wanted: BTreeMap<_, _> = order.lines.iter().map(|l| (&l.product_id, l.quantity)).collect();
                let lines: BTreeMap<_, _> =
                    reservation.iter().flat_map(|r| &r.lines).map(|l| (&l.product_id, l.quantity)).collect();
                if wanted != lines {
                    found.push(format!("order {id} wants {wanted:?}, reserved are {lines:?}"));
                }
            }
            OrderState::Failed => {
                if matches!(payment, Some(PaymentState::Charged | PaymentState::Pending | PaymentState::Refunding)) {
                    found.push(format!("order {id} has failed, its payment is {payment:?}"));
                }
                if held != 0 {
                    found.push(format!("order {id} has failed, the bank holds {held}: {entry:?}"));
                }
                if kept == Some(ReservationState::Reserved) {
                    found.push(format!("order {id} has failed, its stock is still reserved"));
                }
            }
            state => found.push(format!("order {id} has not ended: {state:?}")),
        }
    }
}

/// A checker that never objects proves nothing: each planted fault must be seen.
#[cfg(test)]
mod sees {
    use super::*;
    use contracts::{inventory::v1::ReservationLine, order::v1::OrderLine, r#type::v1::Money};
    use shop_payment::PaymentId;

    const ID: u128 = 0x0190_0000_0000_7000_8000_0000_0000_00aa;

    type Fault = (&'static str, fn(&mut Books));

    fn completed() -> Books {
        let (id, product_id) = (uuid::Uuid::from_u128(ID).to_string(), "p".to_owned());
        let payment = PaymentId(uuid::Uuid::from_u128(ID));
        Books {
            orders: vec![Order {
                order_id: id.clone(),
                state: OrderState::Completed.into(),
                total: Some(Money { amount: 300, currency: "EUR".into() }),
                lines: vec![OrderLine { product_id: product_id.clone(), quantity: 2, ..OrderLine::default() }],
                ..Order::default()
            }],
            payments: vec![Payment { payment_id: id.clone(), state: PaymentState::Charged.into(), ..Payment::default() }],
            ledger: vec![LedgerEntry { payment, state: LedgerState::Taken, takings: 1, held: 300, currency: Some("EUR".into()) }],
            reservations: vec![Reservation {
                reservation_id: id,
                state: ReservationState::Reserved.into(),
                lines: vec![ReservationLine { product_id: product_id.clone(), quantity: 2 }],
                ..Reservation::default()
            }],
            stock: vec![Stock { product_id: product_id.clone(), on_hand: 10, reserved: 2, available: 8, version: 2 }],
            on_hand: BTreeMap::from([(product_id, 10)]),
        }
    }

    #[test]
    fn nothing_where_all_agree() {
        assert_eq!(completed().contradictions(), Vec::<String>::new());
    }

    #[test]
    fn every_planted_fault() {
        let faults: [Fault; 8] = [
            ("money taken twice", |b| b.ledger[0].takings = 2),
            ("an order without money", |b| b.ledger.clear()),
            ("an order without a payment", |b| b.payments.clear()),
            ("a failed order that was charged", |b| b.orders[0].state = OrderState::Failed.into()),
            ("an order that never ends", |b| b.orders[0].state = OrderState::Processing.into()),
            ("stock reserved for nobody", |b| b.reservations.clear()),
            ("stock that vanished", |b| b.stock[0].on_hand = 9),
            ("money for no order", |b| b.orders.clear()),
        ];
        for (fault, plant) in faults {
            let mut books = completed();
            plant(&mut books);
            assert!(!books.contradictions().is_empty(), "{fault} was not seen");
        }
    }
}
