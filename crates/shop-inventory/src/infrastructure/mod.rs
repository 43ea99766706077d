//! Stock, reservations and their events in a SQL database.

mod events;
mod owned;
mod rows;
mod schema;
mod sql_warehouse;

pub use schema::migrations;
pub use sql_warehouse::SqlWarehouse;

#[cfg(test)]
mod tests;
