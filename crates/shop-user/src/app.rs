//! Puts the service together: the same for production and for tests.

use crate::{
    Config,
    api::Api,
    domain::{Email, Error as DomainError, NewUser, Passwords, User},
    infrastructure::{Argon, Issuer, SqlDirectory, SqlKeys, migrations},
};
use contracts::user::v1::user_service_server::UserServiceServer;
use sinew::KeySource;
use sinew_core::{Clock, Rng, SystemClock};
use sinew_events::{Checkpoint, Outbox, Publication, SqlCheckpoint, SqlPublication, idempotency::keep_swept};
use sinew_sql::{DEFAULT_CONNECTIONS, Db};
use std::{sync::Arc, time::Duration};

/// How often the keys are looked at: far shorter than a key is announced before it signs.
const LOOK_AT_KEYS: Duration = Duration::from_secs(60);

/// Why the service could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store could not be opened or migrated.
    #[error(transparent)]
    Store(#[from] sinew_sql::Error),
    /// The first token key could not be made, or a password not be hashed.
    #[error("cannot prepare to issue tokens")]
    Secrets(#[from] DomainError),
}

/// The service, ready to be served: its store is open and migrated, and there is a key to sign with.
#[derive(Debug, Clone)]
pub struct App {
    db: Db,
    publication: SqlPublication,
    directory: SqlDirectory,
    passwords: Argon,
    issuer: Issuer<SqlKeys>,
}

impl App {
    /// Opens the store, brings its schema up to date and makes the first token key if there is none.
    ///
    /// # Errors
    ///
    /// [`BuildError`], which names the thing and the way out.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let db = Db::open(&config.database_url, DEFAULT_CONNECTIONS).await?;
        db.migrate(&sinew_events::migrations()).await?;
        db.migrate(&migrations()).await?;
        let (outbox, clock): (_, Arc<dyn Clock>) = (Outbox::default(), Arc::new(SystemClock));
        let directory = SqlDirectory::new(db.clone(), outbox.clone(), clock.clone());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let passwords = Argon::new(cores).await?;
        let issuer = Issuer::new(SqlKeys::new(db.clone()), clock).await?;
        let publication = SqlPublication::new(db.clone(), outbox, Arc::new(directory.clone()));
        Ok(Self { db, publication, directory, passwords, issuer })
    }

    /// What answers the rpcs.
    pub fn api(&self) -> Api<SqlDirectory, Argon, SqlKeys> {
        Api::new(self.directory.clone(), self.passwords.clone(), self.issuer.clone())
    }

    /// The gRPC service, to be added to a server.
    pub fn service(&self) -> UserServiceServer<Api<SqlDirectory, Argon, SqlKeys>> {
        UserServiceServer::new(self.api())
    }

    /// The keys that verify what this service signs, for its own server.
    pub fn keys(&self) -> Arc<dyn KeySource> {
        Arc::new(self.issuer.clone())
    }

    /// Makes token keys in time, numbers events, and forgets old ones and old idempotency keys, for as long as it is
    /// polled. To be run beside the server.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any place.
    pub async fn upkeep(&self, clock: &dyn Clock, rng: &dyn Rng) {
        tokio::join!(self.rotate_keys(), self.publication.run(clock, rng), keep_swept(&self.db, clock));
    }

    async fn rotate_keys(&self) {
        loop {
            tokio::time::sleep(LOOK_AT_KEYS).await;
            if let Err(error) = self.issuer.refresh().await {
                tracing::warn!(%error, "token keys could not be looked at; trying again in a minute");
            }
        }
    }

    /// Adds a user of any role, for whoever runs the shop: a first administrator. A repeat with the same key changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`DomainError::EmailTaken`], or what the store says.
    pub async fn add_user(&self, user: &NewUser) -> Result<User, DomainError> {
        use crate::domain::Directory;
        let hash = self.passwords.hash(&user.password).await?;
        Ok(self.directory.create(user, &hash).await?.user)
    }

    /// Who logs in with this address, for whoever runs the shop.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn find_user(&self, email: &Email) -> Result<Option<User>, DomainError> {
        use crate::domain::Directory;
        Ok(self.directory.credentials(email).await?.map(|(user, _)| user))
    }

    /// The service's events, to be delivered, and everything it owns.
    pub fn publication(&self) -> Arc<dyn Publication> {
        Arc::new(self.publication.clone())
    }

    /// How far the events are handed to a broker, where there is one.
    pub fn checkpoint(&self, clock: &Arc<dyn Clock>) -> Arc<dyn Checkpoint> {
        Arc::new(SqlCheckpoint::of_bus(self.db.clone(), "user", clock.clone()))
    }

    /// The service's own database.
    pub fn db(&self) -> &Db {
        &self.db
    }
}
