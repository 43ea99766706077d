//! The ports to where users and keys are kept.

use super::{Changes, Email, Error, Hash, KeyRing, NewUser, SigningKey, User, UserId};

/// A page in the order of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only ids after this one.
    pub after: Option<UserId>,
    /// At most so many.
    pub limit: i64,
}

/// What a change with an idempotency key came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The user as the first call with that key left it.
    pub user: User,
    /// Whether the key was used before. Passwords are no part of what is compared: the caller has to see to that.
    pub repeat: bool,
}

/// Keeps users. Each method is one transaction: after an error nothing has changed.
///
/// # Cancel safety
///
/// A dropped future has either changed everything or nothing; the same request may be sent again.
pub trait Directory: Send + Sync + 'static {
    /// Adds a user, with its event.
    fn create(&self, user: &NewUser, hash: &Hash) -> impl Future<Output = Result<Done, Error>> + Send;

    /// Changes a user, with its event. `hash` is that of the new password, if there is one.
    fn update(&self, changes: &Changes, hash: Option<&Hash>) -> impl Future<Output = Result<Done, Error>> + Send;

    /// One user.
    fn get(&self, id: UserId) -> impl Future<Output = Result<User, Error>> + Send;

    /// A user and the hash of its password, by address.
    fn credentials(&self, email: &Email) -> impl Future<Output = Result<Option<(User, Hash)>, Error>> + Send;

    /// A page of users.
    fn list(&self, page: Page) -> impl Future<Output = Result<Vec<User>, Error>> + Send;
}

/// Keeps token keys for all replicas.
pub trait KeyStore: Send + Sync + 'static {
    /// All keys.
    fn keys(&self) -> impl Future<Output = Result<KeyRing, Error>> + Send;

    /// Adds a key unless its generation exists, forgets those before `keep_from`, and answers all that remain.
    fn add(&self, key: &SigningKey, keep_from: i64) -> impl Future<Output = Result<KeyRing, Error>> + Send;
}
