//! What a database can answer other than rows.

use sqlx::migrate::MigrateError;

/// A result whose error is the database's, unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a statement, a transaction or a start failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A unique constraint, named as PostgreSQL names it by default on both: `users_email_key`, `users_pkey`.
    #[error("{0} is taken")]
    Taken(String),
    /// The database could not be opened.
    #[error("cannot open the database {url}: {way_out}")]
    Open {
        /// Its URL without the password.
        url: String,
        /// What the operator can do about it.
        way_out: &'static str,
        /// The driver's own words.
        #[source]
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date; nothing of it was changed.
    #[error(
        "cannot migrate the schema recorded in {table}: restore the migration files it was made with, or start on an empty database"
    )]
    Migrate {
        /// The bookkeeping table of the migrations that failed.
        table: &'static str,
        /// What went wrong.
        #[source]
        source: MigrateError,
    },
    /// A statement of this transaction failed before, so that it cannot commit.
    #[error("the transaction cannot commit: one of its statements failed")]
    Doomed,
    /// Anything else the driver reports.
    #[error(transparent)]
    Database(sqlx::Error),
}

impl Error {
    /// Whether the name of the violated unique constraint is this one.
    pub fn is_taken(&self, constraint: &str) -> bool {
        matches!(self, Self::Taken(name) if name == constraint)
    }

    /// Whether the database asks to run the whole transaction again: nothing of it was done.
    ///
    /// PostgreSQL: serialization failure, deadlock. SQLite: BUSY and its RECOVERY, SNAPSHOT and TIMEOUT forms.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database(e) if matches!(code(e).as_deref(), Some("40001" | "40P01" | "5" | "261" | "517" | "773")))
    }

    /// Whether the database cannot be reached or cannot serve now: UNAVAILABLE to callers. A commit that ends so may or
    /// may not have happened.
    pub fn is_unavailable(&self) -> bool {
        use sqlx::Error as E;
        let Self::Database(e) = self else { return matches!(self, Self::Open { .. }) };
        let unreachable = matches!(e, E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed);
        // PostgreSQL's classes: 08 connection, 53 resources, 57 operator intervention (statement time-out included), 58
        // system; and 25P03 and 55P03, the time-outs of idle transactions and of locks.
        let code = code(e);
        let class = |c: &str| c.len() == 5 && ["08", "53", "57", "58", "25P03", "55P03"].iter().any(|class| c.starts_with(class));
        unreachable || self.is_transient() || code.as_deref().is_some_and(class)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match unique(&error) {
            Some(constraint) => Self::Taken(constraint),
            None => Self::Database(error),
        }
    }
}

fn code(error: &sqlx::Error) -> Option<std::borrow::Cow<'_, str>> {
    error.as_database_error().and_then(|e| e.code())
}

/// The violated unique constraint by PostgreSQL's default name.
fn unique(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    if let Some(constraint) = error.constraint() {
        return error.is_unique_violation().then(|| constraint.to_owned());
    }
    // SQLite names columns instead: "UNIQUE constraint failed: users.email, users.name".
    let columns = error.message().strip_prefix("UNIQUE constraint failed: ")?;
    let table = columns.split('.').next()?;
    // 1555 is the primary key, 2579 the rowid, which sqlx does not count as a unique violation.
    if matches!(error.code().as_deref(), Some("1555" | "2579")) {
        return Some(format!("{table}_pkey"));
    }
    let columns: Vec<_> = columns.split(", ").filter_map(|column| column.split('.').nth(1)).collect();
    Some(format!("{table}_{}_key", columns.join("_")))
}
