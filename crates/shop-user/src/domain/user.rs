//! Users and what may be said about them.

use super::Email;
use chrono::{DateTime, Utc};
use std::fmt;
use uuid::Uuid;

/// A user's id: UUIDv7, given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Buys.
    Customer,
    /// Also runs the shop.
    Admin,
}

/// What a user wants to be called: 1 to 100 characters, no controls, no blanks at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName(String);

/// Not a [`DisplayName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {} characters without control characters", DisplayName::MAX)]
pub struct NameError;

impl DisplayName {
    /// In characters: room for any name, none for a novel.
    pub const MAX: usize = 100;

    /// Trims and checks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        let fits = (1..=Self::MAX).contains(&text.chars().count());
        if fits && !text.contains(char::is_control) { Ok(Self(text.to_owned())) } else { Err(NameError) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A password in the clear, on its way to being hashed. Never logged.
#[derive(Clone)]
pub struct Password(String);

/// Not a [`Password`] a user may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be {} to {} characters", Password::MIN, Password::MAX)]
pub struct PasswordError;

impl Password {
    /// NIST SP 800-63B: at least 8.
    pub const MIN: usize = 8;
    /// Long enough for any passphrase; what is unbounded gets abused.
    pub const MAX: usize = 128;

    /// A password a user chooses.
    pub fn choose(text: String) -> Result<Self, PasswordError> {
        if (Self::MIN..=Self::MAX).contains(&text.chars().count()) { Ok(Self(text)) } else { Err(PasswordError) }
    }

    /// A password somebody claims to have chosen: any will do, a wrong one fails later.
    pub fn claimed(text: String) -> Self {
        Self(text)
    }

    /// The bytes to hash.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Who asks: idempotency keys of different callers never meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub String);

/// A user to create.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The log-in name.
    pub email: Email,
    /// What to call them.
    pub name: DisplayName,
    /// What they may do.
    pub role: Role,
    /// Kept as a hash only.
    pub password: Password,
    /// A repeat with the same key answers what the first one did.
    pub key: String,
    /// Whose key.
    pub caller: Caller,
}

/// What to change; what is none stays.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Whose.
    pub id: UserId,
    /// Only if the user is still at this version.
    pub version: Option<i64>,
    /// The log-in name.
    pub email: Option<Email>,
    /// What to call them.
    pub name: Option<DisplayName>,
    /// A new password.
    pub password: Option<Password>,
    /// A repeat with the same key answers what the first one did.
    pub key: String,
    /// Whose key.
    pub caller: Caller,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Whose.
    pub id: UserId,
    /// The log-in name.
    pub email: Email,
    /// What to call them.
    pub name: DisplayName,
    /// What they may do.
    pub role: Role,
    /// Counts the changes: 1 for a new user.
    pub version: i64,
    /// When they came.
    pub created: DateTime<Utc>,
    /// When they last changed.
    pub updated: DateTime<Utc>,
}
