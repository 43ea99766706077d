//! What somebody wants to order, and what that costs.

use super::{Currency, CustomerId, Error, Money, Order, OrderId, OrderLine, OrderState, ProductId};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// So many of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CartLine {
    /// Which.
    pub product: ProductId,
    /// How many.
    pub quantity: i64,
}

/// Lines that may be ordered: 1 to 100, each of another product, each 1 to 1,000 of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cart(Vec<CartLine>);

/// Why lines may not be ordered; indexes count from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CartError {
    /// There are none.
    #[error("must not be empty")]
    Empty,
    /// There are too many.
    #[error("at most {} lines", Cart::MAX_LINES)]
    TooMany,
    /// This line has a quantity out of bounds.
    #[error("must be 1 to {}", Cart::MAX_QUANTITY)]
    Quantity(usize),
    /// This line names a product that an earlier one does.
    #[error("an earlier line names the same product")]
    Repeated(usize),
}

impl Cart {
    /// One order is one transaction in two services: its size is bounded.
    pub const MAX_LINES: usize = 100;
    /// More than anyone buys at once, and far from where sums of prices overflow.
    pub const MAX_QUANTITY: i64 = 1_000;

    /// Checks the lines.
    pub fn new(lines: Vec<CartLine>) -> Result<Self, CartError> {
        if lines.is_empty() {
            return Err(CartError::Empty);
        }
        if lines.len() > Self::MAX_LINES {
            return Err(CartError::TooMany);
        }
        let mut seen = BTreeSet::new();
        for (index, line) in lines.iter().enumerate() {
            if !(1..=Self::MAX_QUANTITY).contains(&line.quantity) {
                return Err(CartError::Quantity(index));
            }
            if !seen.insert(line.product) {
                return Err(CartError::Repeated(index));
            }
        }
        Ok(Self(lines))
    }

    /// Its lines, in the order given.
    pub fn lines(&self) -> &[CartLine] {
        &self.0
    }

    /// The order that this is, at the names and prices of now.
    ///
    /// # Errors
    ///
    /// [`Error::ProductUnknown`], [`Error::MixedCurrencies`], [`Error::TotalTooLarge`].
    pub fn price(&self, id: OrderId, customer: &Customer, products: &[Product], now: DateTime<Utc>) -> Result<Order, Error> {
        let mut unknown = Vec::new();
        let mut lines = Vec::with_capacity(self.0.len());
        for line in &self.0 {
            match products.iter().find(|product| product.id == line.product) {
                None => unknown.push(line.product),
                Some(product) => lines.push(OrderLine {
                    product: line.product,
                    name: product.name.clone(),
                    quantity: line.quantity,
                    unit_price: product.price,
                }),
            }
        }
        if !unknown.is_empty() {
            return Err(Error::ProductUnknown(unknown));
        }
        Ok(Order {
            id,
            customer: customer.id,
            customer_name: customer.name.clone(),
            total: total(&lines)?,
            lines,
            state: OrderState::Started,
            failure: None,
            version: 1,
            created: now,
            updated: now,
        })
    }
}

fn total(lines: &[OrderLine]) -> Result<Money, Error> {
    let currency: Option<Currency> = lines.first().map(|line| line.unit_price.currency);
    let currency = currency.ok_or(Error::TotalTooLarge)?;
    if lines.iter().any(|line| line.unit_price.currency != currency) {
        return Err(Error::MixedCurrencies);
    }
    let sum = lines.iter().try_fold(Money { amount: 0, currency }, |sum, line| sum.plus(line.unit_price.times(line.quantity)?));
    sum.ok_or(Error::TotalTooLarge)
}

/// What is known of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// Who.
    pub id: CustomerId,
    /// How to address them.
    pub name: String,
    /// The version of the user that says so.
    pub version: i64,
}

/// What is known of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Which.
    pub id: ProductId,
    /// What it is called.
    pub name: String,
    /// For one; above 0.
    pub price: Money,
    /// The version of the product that says so.
    pub version: i64,
}
