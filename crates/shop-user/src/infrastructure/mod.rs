//! Users and keys in a SQL database, Argon2 passwords, Ed25519 tokens.

mod argon;
mod nice_threads;
mod owned;
mod schema;
mod sql_directory;
mod sql_keys;
mod token_issuer;

pub use argon::Argon;
pub use schema::migrations;
pub use sql_directory::SqlDirectory;
pub use sql_keys::SqlKeys;
pub use token_issuer::{Claims, Issuer};

#[cfg(test)]
mod tests;
