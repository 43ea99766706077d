//! The copies of users and products, kept by their owners' events: the order path asks nobody.

use super::rows;
use crate::domain::{Currency, Customer, CustomerId, Money, Product, ProductId};
use contracts::{
    product::v1::{ProductCreated, ProductUpdated},
    user::v1::{UserCreated, UserUpdated},
};
use sinew_core::{BoxFuture, planted};
use sinew_events::{Event, Projection, ProjectionError};
use sinew_sql::Tx;

/// Whose users and products are copied: the names of the services in the registry.
pub(crate) const USERS: &str = "user";
pub(crate) const PRODUCTS: &str = "product";

/// Takes in the user service's events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Users;

/// Takes in the product service's events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Products;

impl Users {
    /// The customer that an event tells of, if it tells of one.
    fn read(event: &Event) -> Result<Option<Customer>, ProjectionError> {
        let user = match &*event.kind {
            "user.created" => event.message::<UserCreated>()?.user,
            "user.updated" => event.message::<UserUpdated>()?.user,
            _ => return Ok(None),
        };
        let user = user.ok_or_else(|| ProjectionError::malformed(event, "no user"))?;
        let version = if planted!(OlderCopyWins) { i64::MAX } else { event.version };
        Ok(Some(Customer { id: CustomerId(event.aggregate), name: user.name, version }))
    }
}

impl Products {
    /// The product that an event tells of, if it tells of one.
    fn read(event: &Event) -> Result<Option<Product>, ProjectionError> {
        let product = match &*event.kind {
            "product.created" => event.message::<ProductCreated>()?.product,
            "product.updated" => event.message::<ProductUpdated>()?.product,
            _ => return Ok(None),
        };
        let product = product.ok_or_else(|| ProjectionError::malformed(event, "no product"))?;
        let price = product.price.unwrap_or_default();
        let currency = Currency::parse(&price.currency).filter(|_| price.amount > 0);
        let currency = currency.ok_or_else(|| ProjectionError::malformed(event, format!("the price {price:?}")))?;
        let price = Money { amount: price.amount, currency };
        Ok(Some(Product { id: ProductId(event.aggregate), name: product.name, price, version: event.version }))
    }
}

impl Projection for Users {
    fn apply<'a>(&'a self, tx: &'a mut Tx, event: &'a Event) -> BoxFuture<'a, Result<(), ProjectionError>> {
        Box::pin(async move { Ok(rows::put_customers(tx, Self::read(event)?).await?) })
    }

    fn apply_all<'a>(&'a self, tx: &'a mut Tx, events: &'a [&'a Event]) -> Option<BoxFuture<'a, Result<(), ProjectionError>>> {
        Some(Box::pin(async move { Ok(rows::put_customers(tx, all(events, Self::read)?).await?) }))
    }
}

impl Projection for Products {
    fn apply<'a>(&'a self, tx: &'a mut Tx, event: &'a Event) -> BoxFuture<'a, Result<(), ProjectionError>> {
        Box::pin(async move { Ok(rows::put_products(tx, Self::read(event)?).await?) })
    }

    fn apply_all<'a>(&'a self, tx: &'a mut Tx, events: &'a [&'a Event]) -> Option<BoxFuture<'a, Result<(), ProjectionError>>> {
        Some(Box::pin(async move { Ok(rows::put_products(tx, all(events, Self::read)?).await?) }))
    }
}

/// What these events tell, oldest first.
fn all<T>(events: &[&Event], read: fn(&Event) -> Result<Option<T>, ProjectionError>) -> Result<Vec<T>, ProjectionError> {
    events.iter().filter_map(|event| read(event).transpose()).collect()
}
