//! Users on SQLite or PostgreSQL.

use crate::{
    api::user as wire,
    domain::{Changes, Directory, DisplayName, Done, Email, Error, Hash, NewUser, Page, Role, User, UserId},
};
use chrono::{DateTime, Utc};
use contracts::user::v1::{UserCreated, UserUpdated};
use serde::{Deserialize, Serialize};
use sinew_core::Clock;
use sinew_events::{
    NewEvent, Outbox,
    idempotency::{self, Claim, Fingerprint, Key},
};
use sinew_sql::{Db, Tx, retry};
use std::sync::Arc;
use uuid::Uuid;

/// Users in a SQL database.
#[derive(Debug, Clone)]
pub struct SqlDirectory {
    db: Db,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
}

/// A user as the table has it, and as the idempotency table keeps it for repeats.
#[derive(sqlx::FromRow, Serialize, Deserialize)]
struct Row {
    user_id: Uuid,
    email: String,
    name: String,
    role: String,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "user_id, email, name, role, version, created_at, updated_at"
    };
}

impl SqlDirectory {
    /// On a migrated database; `outbox` wakes whoever delivers its events.
    pub fn new(db: Db, outbox: Outbox, clock: Arc<dyn Clock>) -> Self {
        Self { db, outbox, clock }
    }

    async fn try_create(&self, new: &NewUser, hash: &Hash) -> Result<Done, Error> {
        let now = sinew_sql::now(&*self.clock);
        let key = Key { caller: &new.caller.0, key: &new.key };
        let request = Fingerprint::of("CreateUser", [new.email.as_str(), new.name.as_str()].join("\0").as_bytes());
        let mut tx = self.db.begin().await?;
        if let Claim::Repeat(answer) = idempotency::claim(&mut tx, key, &request, now).await? {
            return Ok(Done { user: decode(&answer)?, repeat: true });
        }
        let user = User {
            id: UserId(Uuid::now_v7()),
            email: new.email.clone(),
            name: new.name.clone(),
            role: new.role,
            version: 1,
            created: now,
            updated: now,
        };
        let sql = "INSERT INTO users (user_id, email, name, role, password_hash, version, created_at, updated_at)
                   VALUES ($1, $2, $3, $4, $5, 1, $6, $6) ON CONFLICT (email) DO NOTHING";
        let added = tx
            .q(sql)
            .bind(user.id.0)
            .bind(user.email.as_str())
            .bind(user.name.as_str())
            .bind(role_name(user.role))
            .bind(hash.0.as_str())
            .bind(now)
            .run()
            .await?;
        if added == 0 {
            return Err(Error::EmailTaken);
        }
        let event = NewEvent::new(user.id.0, 1, "user.created", &UserCreated { user: Some(wire(&user)) }, now);
        self.outbox.append(&mut tx, event).await?;
        finish(tx, key, user).await
    }

    async fn try_update(&self, changes: &Changes, hash: Option<&Hash>) -> Result<Done, Error> {
        let now = sinew_sql::now(&*self.clock);
        let key = Key { caller: &changes.caller.0, key: &changes.key };
        let email = changes.email.as_ref().map(Email::as_str);
        let name = changes.name.as_ref().map(DisplayName::as_str);
        let request = serde_json::to_vec(&(changes.id.0, changes.version, email, name, hash.is_some()));
        let request = Fingerprint::of("UpdateUser", &request.map_err(|error| Error::Internal(error.into()))?);
        let mut tx = self.db.begin().await?;
        if let Claim::Repeat(answer) = idempotency::claim(&mut tx, key, &request, now).await? {
            return Ok(Done { user: decode(&answer)?, repeat: true });
        }
        let before = lock(&mut tx, changes.id).await?.ok_or(Error::NotFound)?;
        if changes.version.is_some_and(|version| version != before.version) {
            return Err(Error::Stale);
        }
        let user = User {
            email: changes.email.clone().unwrap_or(before.email),
            name: changes.name.clone().unwrap_or(before.name),
            version: before.version + 1,
            updated: now.max(before.updated),
            ..before
        };
        let sql = "UPDATE users SET email = $2, name = $3, version = $4, updated_at = $5,
                          password_hash = COALESCE($6, password_hash) WHERE user_id = $1";
        tx.q(sql)
            .bind(user.id.0)
            .bind(user.email.as_str())
            .bind(user.name.as_str())
            .bind(user.version)
            .bind(user.updated)
            .bind(hash.map(|hash| hash.0.as_str()))
            .run()
            .await?;
        let event = NewEvent::new(user.id.0, user.version, "user.updated", &UserUpdated { user: Some(wire(&user)) }, now);
        self.outbox.append(&mut tx, event).await?;
        finish(tx, key, user).await
    }
}

impl Directory for SqlDirectory {
    async fn create(&self, user: &NewUser, hash: &Hash) -> Result<Done, Error> {
        retry(|| self.try_create(user, hash)).await
    }

    async fn update(&self, changes: &Changes, hash: Option<&Hash>) -> Result<Done, Error> {
        retry(|| self.try_update(changes, hash)).await
    }

    async fn get(&self, id: UserId) -> Result<User, Error> {
        let mut tx = self.db.snapshot().await?;
        let sql = concat!("SELECT ", columns!(), " FROM users WHERE user_id = $1");
        tx.q(sql).bind(id.0).opt::<Row>().await?.ok_or(Error::NotFound)?.try_into()
    }

    async fn credentials(&self, email: &Email) -> Result<Option<(User, Hash)>, Error> {
        let mut tx = self.db.snapshot().await?;
        let sql = concat!("SELECT ", columns!(), " FROM users WHERE email = $1");
        let Some(row) = tx.q(sql).bind(email.as_str()).opt::<Row>().await? else { return Ok(None) };
        let sql = "SELECT password_hash FROM users WHERE user_id = $1";
        let (hash,): (String,) = tx.q(sql).bind(row.user_id).one().await?;
        Ok(Some((row.try_into()?, Hash(hash))))
    }

    async fn list(&self, page: Page) -> Result<Vec<User>, Error> {
        let mut tx = self.db.snapshot().await?;
        let sql = concat!("SELECT ", columns!(), " FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2");
        let after = page.after.map_or(Uuid::nil(), |id| id.0);
        tx.q(sql).bind(after).bind(page.limit).all::<Row>().await?.into_iter().map(User::try_from).collect()
    }
}

/// Keeps the answer for repeats and commits.
async fn finish(mut tx: Tx, key: Key<'_>, user: User) -> Result<Done, Error> {
    let answer = serde_json::to_vec(&Row::from(&user)).map_err(|error| Error::Internal(error.into()))?;
    idempotency::answer(&mut tx, key, &answer).await?;
    tx.commit().await?;
    Ok(Done { user, repeat: false })
}

async fn lock(tx: &mut Tx, id: UserId) -> Result<Option<User>, Error> {
    let sql = (
        concat!("SELECT ", columns!(), " FROM users WHERE user_id = $1 FOR UPDATE"),
        concat!("SELECT ", columns!(), " FROM users WHERE user_id = $1"),
    );
    tx.q(sql).bind(id.0).opt::<Row>().await?.map(User::try_from).transpose()
}

fn decode(answer: &[u8]) -> Result<User, Error> {
    serde_json::from_slice::<Row>(answer).map_err(|error| Error::Internal(error.into()))?.try_into()
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Customer => "customer",
        Role::Admin => "admin",
    }
}

impl From<&User> for Row {
    fn from(user: &User) -> Self {
        Self {
            user_id: user.id.0,
            email: user.email.as_str().to_owned(),
            name: user.name.as_str().to_owned(),
            role: role_name(user.role).to_owned(),
            version: user.version,
            created_at: user.created,
            updated_at: user.updated,
        }
    }
}

impl TryFrom<Row> for User {
    type Error = Error;

    /// A role is not guessed at: a row that breaks the rules is an error, whoever wrote it.
    fn try_from(row: Row) -> Result<Self, Error> {
        let broken = |what: &str| Error::Internal(format!("user {}: {what}", row.user_id).into());
        Ok(Self {
            id: UserId(row.user_id),
            email: Email::new(&row.email).map_err(|_| broken("e-mail address"))?,
            name: DisplayName::new(&row.name).map_err(|_| broken("name"))?,
            role: match row.role.as_str() {
                "customer" => Role::Customer,
                "admin" => Role::Admin,
                _ => return Err(broken("role")),
            },
            version: row.version,
            created: row.created_at,
            updated: row.updated_at,
        })
    }
}

impl From<sinew_sql::Error> for Error {
    fn from(error: sinew_sql::Error) -> Self {
        if error.is_taken("users_email_key") {
            Self::EmailTaken
        } else if error.is_unavailable() {
            Self::Unavailable(error.into())
        } else {
            Self::Internal(error.into())
        }
    }
}

impl From<idempotency::Error> for Error {
    fn from(error: idempotency::Error) -> Self {
        match error {
            idempotency::Error::Reused => Self::KeyReused,
            idempotency::Error::Sql(error) => error.into(),
        }
    }
}

impl sinew_sql::Retry for Error {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(cause) if cause.downcast_ref::<sinew_sql::Error>().is_some_and(sinew_sql::Error::is_transient))
    }
}
