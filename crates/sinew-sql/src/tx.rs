//! Transactions and their statements.

#[cfg(feature = "simulation")]
use crate::simulated::at_once;
use crate::{Error, Result};
use sqlx::{
    Encode, FromRow, Postgres, Sqlite, Transaction, Type,
    postgres::{PgArguments, PgRow},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use std::fmt;

/// A transaction. Dropped without [`commit`](Tx::commit) it is rolled back.
pub struct Tx {
    driver: Driver,
    doomed: bool,
    committed: Vec<Box<dyn FnOnce() + Send>>,
}

pub(crate) enum Driver {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
    #[cfg(feature = "simulation")]
    Simulated(crate::simulated::Held),
}

/// A statement whose arguments are being bound.
#[must_use = "a statement does nothing until it is run"]
pub struct Statement<'t> {
    query: Bound<'t>,
    doomed: &'t mut bool,
}

enum Bound<'t> {
    Postgres(&'t mut Transaction<'static, Postgres>, Query<'static, Postgres, PgArguments>),
    Sqlite(&'t mut Transaction<'static, Sqlite>, Query<'static, Sqlite, SqliteArguments>),
    #[cfg(feature = "simulation")]
    Simulated(&'t mut sqlx::SqliteConnection, Query<'static, Sqlite, SqliteArguments>),
}

/// A statement's text: one for both databases (`"…"`), or one each (`("postgres", "sqlite")`).
pub trait Sql {
    /// The texts for PostgreSQL and SQLite.
    fn texts(self) -> (&'static str, &'static str);
}

impl Sql for &'static str {
    fn texts(self) -> (&'static str, &'static str) {
        (self, self)
    }
}

impl Sql for (&'static str, &'static str) {
    fn texts(self) -> Self {
        self
    }
}

/// What both databases can store.
pub trait Arg<'t>: Encode<'t, Postgres> + Type<Postgres> + Encode<'t, Sqlite> + Type<Sqlite> {}
impl<'t, T: Encode<'t, Postgres> + Type<Postgres> + Encode<'t, Sqlite> + Type<Sqlite>> Arg<'t> for T {}

/// What can be read from rows of both databases: tuples of columns, and structs that derive `sqlx::FromRow`.
pub trait Record: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send {}
impl<T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send> Record for T {}

// === impl Tx ===

impl Tx {
    pub(crate) fn new(driver: Driver) -> Self {
        Self { driver, doomed: false, committed: Vec::new() }
    }

    /// A statement to bind arguments to and run.
    pub fn q(&mut self, sql: impl Sql) -> Statement<'_> {
        let (postgres, sqlite) = sql.texts();
        // `*` breaks in a running process when another adds a column: an error for good on PostgreSQL, a panic in
        // sqlx's worker and an empty answer on SQLite.
        debug_assert!(
            ![postgres, sqlite].iter().any(|sql| sql.contains("SELECT *") || sql.contains("RETURNING *")),
            "name the columns: {postgres}"
        );
        let query = match &mut self.driver {
            Driver::Postgres(tx) => Bound::Postgres(tx, sqlx::query(postgres)),
            Driver::Sqlite(tx) => Bound::Sqlite(tx, sqlx::query(sqlite)),
            #[cfg(feature = "simulation")]
            Driver::Simulated(held) => Bound::Simulated(held.connection(), sqlx::query(sqlite)),
        };
        Statement { query, doomed: &mut self.doomed }
    }

    /// Calls `then` if and when the commit is done: to wake whoever waits for what was written. It must not block.
    pub fn after_commit(&mut self, then: impl FnOnce() + Send + 'static) {
        self.committed.push(Box::new(then));
    }

    /// Makes everything durable and visible.
    ///
    /// # Errors
    ///
    /// [`Error::Doomed`] when a statement failed or was dropped halfway: PostgreSQL would answer with a silent rollback.
    /// After other errors it may or may not be committed; keep an idempotency key in the same transaction.
    ///
    /// # Cancel safety
    ///
    /// A dropped commit may or may not have happened.
    pub async fn commit(self) -> Result<()> {
        match self.driver {
            _ if self.doomed => return Err(Error::Doomed),
            Driver::Postgres(tx) => tx.commit().await?,
            Driver::Sqlite(tx) => tx.commit().await?,
            #[cfg(feature = "simulation")]
            Driver::Simulated(held) => held.commit().await?,
        }
        self.committed.into_iter().for_each(|then| then());
        Ok(())
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("doomed", &self.doomed).finish_non_exhaustive()
    }
}

// === impl Statement ===

impl Statement<'_> {
    /// The next argument, `$1` first.
    pub fn bind<'a>(self, value: impl Arg<'a>) -> Self {
        let query = match self.query {
            Bound::Postgres(tx, query) => Bound::Postgres(tx, query.bind(value)),
            Bound::Sqlite(tx, query) => Bound::Sqlite(tx, query.bind(value)),
            #[cfg(feature = "simulation")]
            Bound::Simulated(connection, query) => Bound::Simulated(connection, query.bind(value)),
        };
        Self { query, ..self }
    }

    /// Runs it and answers how many rows it affected.
    ///
    /// # Cancel safety
    ///
    /// Dropped halfway, this and the methods below doom the transaction.
    pub async fn run(self) -> Result<u64> {
        let before = std::mem::replace(self.doomed, true);
        let affected = match self.query {
            Bound::Postgres(tx, query) => query.execute(&mut **tx).await?.rows_affected(),
            Bound::Sqlite(tx, query) => query.execute(&mut **tx).await?.rows_affected(),
            #[cfg(feature = "simulation")]
            Bound::Simulated(connection, query) => at_once(query.execute(connection))?.rows_affected(),
        };
        *self.doomed = before;
        Ok(affected)
    }

    /// Runs it and answers all rows.
    pub async fn all<T: Record>(self) -> Result<Vec<T>> {
        let before = std::mem::replace(self.doomed, true);
        let rows = match self.query {
            Bound::Postgres(tx, query) => query.fetch_all(&mut **tx).await?.iter().map(T::from_row).collect::<Result<_, _>>()?,
            Bound::Sqlite(tx, query) => query.fetch_all(&mut **tx).await?.iter().map(T::from_row).collect::<Result<_, _>>()?,
            #[cfg(feature = "simulation")]
            Bound::Simulated(connection, query) => {
                at_once(query.fetch_all(connection))?.iter().map(T::from_row).collect::<Result<_, _>>()?
            }
        };
        *self.doomed = before;
        Ok(rows)
    }

    /// Runs it and answers the first row, if there is one.
    pub async fn opt<T: Record>(self) -> Result<Option<T>> {
        Ok(self.all().await?.into_iter().next())
    }

    /// Runs it and answers the first row.
    ///
    /// # Errors
    ///
    /// `RowNotFound` when there is none.
    pub async fn one<T: Record>(self) -> Result<T> {
        self.opt().await?.ok_or(Error::Database(sqlx::Error::RowNotFound))
    }
}

impl fmt::Debug for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Statement")
    }
}
