//! Orders: the rules, and the ports to what they need.

mod cart;
mod error;
mod money;
mod order;
mod place;
mod ports;
#[cfg(test)]
mod tests;

pub use cart::{Cart, CartError, CartLine, Customer, Product};
pub use error::Error;
pub use money::{Currency, Money};
pub use order::{Caller, CustomerId, FailureReason, Order, OrderId, OrderLine, OrderState, ProductId, Progress};
pub use place::place;
pub use ports::{Cancel, Catalogue, Inventory, Orders, Page, Payments, Place, Purchase, Receipt};
