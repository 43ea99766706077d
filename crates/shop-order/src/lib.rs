//! The order service: what somebody ordered, and the saga that carries it out or undoes it.

mod api;
mod app;
mod config;
mod domain;
mod infrastructure;
mod saga;

pub use api::Api;
pub use app::{App, Deps, Feeds};
pub use config::Config;
pub use domain::{
    Caller, Cancel, Cart, CartError, CartLine, Catalogue, Currency, Customer, CustomerId, Error, FailureReason, Inventory, Money,
    Order, OrderId, OrderLine, OrderState, Orders, Page, Payments, Place, Product, ProductId, Progress, Purchase, Receipt, place,
};
pub use infrastructure::{Channel, GrpcInventory, GrpcPayments, SqlCatalogue, SqlOrders, migrations};
pub use saga::failpoints;
