//! Accounts: making and changing them, and logging in.

use super::{Changes, Directory, Done, Email, Error, NewUser, Page, Password, User, UserId};

/// A password's hash in PHC string form, with its salt and parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(pub String);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// A signed token and how long it is good for.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// For the `authorization` header, after `Bearer `. A secret: never logged.
    pub bearer: String,
    /// In seconds from now.
    pub expires_in: i64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
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
    fn issue(&self, user: &User) -> impl Future<Output = Result<Token, Error>> + Send;
}

/// All that can be done with accounts.
#[derive(Debug, Clone)]
pub struct Accounts<D, P, T> {
    directory: D,
    passwords: P,
    tokens: T,
}

impl<D: Directory, P: Passwords, T: Tokens> Accounts<D, P, T> {
    /// Over these.
    pub fn new(directory: D, passwords: P, tokens: T) -> Self {
        Self { directory, passwords, tokens }
    }

    /// Adds a user.
    pub async fn create(&self, user: &NewUser) -> Result<User, Error> {
        let hash = self.passwords.hash(&user.password).await?;
        let done = self.directory.create(user, &hash).await?;
        self.same_password(done, Some(&user.password)).await
    }

    /// Changes a user.
    pub async fn update(&self, changes: &Changes) -> Result<User, Error> {
        let hash = match &changes.password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let done = self.directory.update(changes, hash.as_ref()).await?;
        self.same_password(done, changes.password.as_ref()).await
    }

    /// A token for who knows the password, and who that is. Unknown address and wrong password take equally long and are
    /// answered alike.
    pub async fn authenticate(&self, email: &Email, password: &Password) -> Result<(User, Token), Error> {
        let found = self.directory.credentials(email).await?;
        let right = self.passwords.matches(password, found.as_ref().map(|(_, hash)| hash)).await?;
        match found {
            Some((user, _)) if right => {
                let token = self.tokens.issue(&user).await?;
                Ok((user, token))
            }
            _ => Err(Error::WrongCredentials),
        }
    }

    /// One user.
    pub async fn get(&self, id: UserId) -> Result<User, Error> {
        self.directory.get(id).await
    }

    /// A page of users in the order of their ids.
    pub async fn list(&self, page: Page) -> Result<Vec<User>, Error> {
        self.directory.list(page).await
    }

    /// A repeat must be the same request to the password. Nothing fast to compute may be kept of a password, so it is
    /// held against the hash that the first request left.
    async fn same_password(&self, done: Done, password: Option<&Password>) -> Result<User, Error> {
        if let (true, Some(password)) = (done.repeat, password) {
            let found = self.directory.credentials(&done.user.email).await?;
            if !self.passwords.matches(password, found.as_ref().map(|(_, hash)| hash)).await? {
                return Err(Error::KeyReused);
            }
        }
        Ok(done.user)
    }
}
