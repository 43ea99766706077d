//! The catalogue in a SQL database or in Redis.

mod owned;
mod record;
mod redis_catalogue;
mod redis_checkpoint;
mod redis_publication;
mod schema;
mod sql_catalogue;
mod store;

pub use redis_catalogue::RedisCatalogue;
pub use schema::migrations;
pub use sql_catalogue::SqlCatalogue;
pub use store::{OpenError, Store};

#[cfg(test)]
mod tests;
