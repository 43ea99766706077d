//! The rules of users, passwords and token keys, and the ports they need: nothing here knows the wire or the database.

mod accounts;
mod directory;
mod email;
mod error;
mod keys;
mod user;

pub use accounts::{Accounts, Hash, Passwords, Token, Tokens};
pub use directory::{Directory, Done, KeyStore, Page};
pub use email::{Email, EmailError};
pub use error::Error;
pub use keys::{ANNOUNCE, KeyRing, ROTATE_EVERY, SKEW, SigningKey, TOKEN_LIFE};
pub use user::{Caller, Changes, DisplayName, NameError, NewUser, Password, PasswordError, Role, User, UserId};

#[cfg(test)]
mod tests;
