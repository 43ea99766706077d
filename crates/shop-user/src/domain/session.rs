//! Logging in: a password against a hash, then a token.

use super::{Directory, Email, Error, Password, User};

/// A password's hash in PHC string form, with its salt and parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(pub String);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// A signed token and how long it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// For the `authorization` header, after `Bearer `.
    pub bearer: String,
    /// In seconds from now.
    pub expires_in: u64,
}

/// Hashes and checks passwords. Both are slow on purpose, so at most one runs per core and [`Error::Busy`] answers
/// those who would wait too long.
pub trait Passwords: Send + Sync + 'static {
    /// Hashes a new password.
    fn hash(&self, password: &Password) -> impl Future<Output = Result<Hash, Error>> + Send;

    /// Whether the password is the hashed one. With no hash the answer is no, after the same work.
    fn matches(&self, password: &Password, hash: Option<&Hash>) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// Signs tokens.
pub trait Tokens: Send + Sync + 'static {
    /// A token that says who this is.
    fn issue(&self, user: &User) -> Result<Token, Error>;
}

/// Log-ins.
#[derive(Debug, Clone)]
pub struct Sessions<D, P, T> {
    directory: D,
    passwords: P,
    tokens: T,
}

impl<D: Directory, P: Passwords, T: Tokens> Sessions<D, P, T> {
    /// Over these.
    pub fn new(directory: D, passwords: P, tokens: T) -> Self {
        Self { directory, passwords, tokens }
    }

    /// A token for who knows the password. Unknown address and wrong password take equally long and are answered alike.
    pub async fn authenticate(&self, email: &Email, password: &Password) -> Result<Token, Error> {
        let found = self.directory.credentials(email).await?;
        let hash = found.as_ref().map(|(_, hash)| hash);
        let right = self.passwords.matches(password, hash).await?;
        match found {
            Some((user, _)) if right => self.tokens.issue(&user),
            _ => Err(Error::WrongCredentials),
        }
    }
}
