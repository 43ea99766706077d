//! Users and keys in a SQL database, Argon2 passwords, Ed25519 tokens.

mod argon;

pub use argon::Argon;
