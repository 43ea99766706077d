//! The rules of users, passwords and token keys, and the ports they need: nothing here knows the wire or the database.

mod directory;
mod email;
mod error;
mod keys;
mod session;
mod user;

pub use directory::{Directory, KeyStore, Page};
pub use email::{Email, EmailError};
pub use error::Error;
pub use keys::{ANNOUNCE, KeyRing, ROTATE_EVERY, SKEW, SigningKey, TOKEN_LIFE};
pub use session::{Hash, Passwords, Sessions, Token, Tokens};
pub use user::{Caller, Changes, DisplayName, NameError, NewUser, Password, PasswordError, Role, User, UserId};

#[cfg(test)]
mod tests;
