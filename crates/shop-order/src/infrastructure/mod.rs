//! Orders in a SQL database, their events, and the services they are carried out with.

mod clients;
mod copies;
mod events;
mod fault;
mod owned;
mod recorder;
mod rows;
mod schema;
mod sql_catalogue;
mod sql_orders;

pub use clients::{Channel, GrpcInventory, GrpcPayments};
pub(crate) use copies::{PRODUCTS, Products, USERS, Users};
pub(crate) use recorder::OrderRecorder;
pub use schema::migrations;
pub use sql_catalogue::SqlCatalogue;
pub use sql_orders::SqlOrders;
