//! The ports: what is stored, what others tell, and who is asked.

use super::{Caller, Cart, Customer, CustomerId, Error, Money, Order, OrderId, Product, ProductId};
use serde::{Deserialize, Serialize};
use sinew_core::BoxFuture;
use sinew_saga::Failure;
use uuid::Uuid;

/// A wish to order.
#[derive(Debug, Clone)]
pub struct Place {
    /// Who orders.
    pub customer: CustomerId,
    /// What.
    pub cart: Cart,
    /// The payment provider's token for the customer's card.
    pub payment_token: String,
    /// A repeat with the same key answers with the first one's order.
    pub key: String,
}

/// A wish to undo.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// Which order.
    pub order: OrderId,
    /// Who asks.
    pub caller: Caller,
    /// A repeat with the same key changes nothing.
    pub key: String,
}

/// A page, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only this customer's.
    pub customer: Option<CustomerId>,
    /// Only orders before this one.
    pub before: Option<OrderId>,
    /// At most so many.
    pub limit: usize,
}

/// Where orders are kept and their sagas begin. Each method is one transaction: after an error nothing has changed.
///
/// # Cancel safety
///
/// A dropped future has either changed everything or nothing; the same request may be sent again.
pub trait Orders: Clone + Send + Sync + 'static {
    /// Places an order at the names and prices known now: order, saga, event and key together.
    ///
    /// # Errors
    ///
    /// [`Error::ProductUnknown`] and [`Error::CustomerUnknown`] may pass: their news may be on its way.
    fn place(&self, wish: &Place) -> impl Future<Output = Result<Order, Error>> + Send;

    /// One order; [`Error::NotFound`].
    fn get(&self, id: OrderId) -> impl Future<Output = Result<Order, Error>> + Send;

    /// A page of orders.
    fn list(&self, page: Page) -> impl Future<Output = Result<Vec<Order>, Error>> + Send;

    /// Asks for an order to be undone, and answers with it as it is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Completed`], [`Error::Failed`].
    fn cancel(&self, wish: &Cancel) -> impl Future<Output = Result<Order, Error>> + Send;
}

/// The copies of what other services own; older versions than the one held are dropped.
pub trait Catalogue: Clone + Send + Sync + 'static {
    /// Takes in a customer.
    fn put_customer(&self, customer: &Customer) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes in a product.
    fn put_product(&self, product: &Product) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What an order's saga needs to know: stored with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purchase {
    /// Who pays.
    pub customer: Uuid,
    /// Products and how many of each.
    pub lines: Vec<(Uuid, i64)>,
    /// How much.
    pub total: Money,
    /// By which token.
    pub payment_token: String,
}

impl Purchase {
    /// Of this order.
    pub fn new(order: &Order, payment_token: &str) -> Self {
        Self {
            customer: order.customer.0,
            lines: order.lines.iter().map(|line| (line.product.0, line.quantity)).collect(),
            total: order.total,
            payment_token: payment_token.to_owned(),
        }
    }

    /// Products and how many of each.
    pub fn products(&self) -> impl Iterator<Item = (ProductId, i64)> {
        self.lines.iter().map(|&(product, quantity)| (ProductId(product), quantity))
    }
}

/// The inventory service. Repeats are harmless by the order's id.
pub trait Inventory: Send + Sync + 'static {
    /// Keeps stock for the order: all lines or none.
    fn reserve<'a>(&'a self, order: OrderId, purchase: &'a Purchase) -> BoxFuture<'a, Result<(), Failure>>;

    /// Gives it back; also what was never reserved.
    fn release(&self, order: OrderId) -> BoxFuture<'_, Result<(), Failure>>;
}

/// That money was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The payment provider's own name of the charge; empty from a payment service that does not tell it.
    pub reference: String,
}

/// The payment service. Repeats are harmless by the order's id.
pub trait Payments: Send + Sync + 'static {
    /// Takes the money, once.
    fn charge<'a>(&'a self, order: OrderId, purchase: &'a Purchase) -> BoxFuture<'a, Result<Receipt, Failure>>;

    /// Gives it back; also what was never taken.
    fn refund(&self, order: OrderId) -> BoxFuture<'_, Result<(), Failure>>;
}
