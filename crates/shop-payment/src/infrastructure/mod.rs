//! Payments and their events in a SQL database, and the provider that comes with the shop.

mod embedded_provider;
mod events;
mod owned;
mod schema;
mod sql_books;

pub use embedded_provider::{EmbeddedProvider, LedgerEntry, LedgerState, read_ledger};
pub use schema::{migrations, provider_migrations};
pub use sql_books::SqlBooks;

#[cfg(test)]
mod tests;
