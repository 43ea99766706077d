//! A schema's history, once for each database.

use crate::{Db, Error, Result};
use sqlx::{ConnectOptions, Connection, migrate::Migrator};

/// The migrations of one owner of tables.
///
/// Several owners share a database: the framework's crates and the service each bring their own, told apart by the name
/// of the table that records what was applied. A service adds a `build.rs` with `cargo:rerun-if-changed=migrations`,
/// or new files go unseen.
#[derive(Debug)]
pub struct Migrations {
    table: &'static str,
    postgres: Migrator,
    sqlite: Migrator,
}

impl Migrations {
    /// `table` records what was applied, `_migrations_order`; the migrators come from `sqlx::migrate!`.
    ///
    /// What was applied and is not known here is a newer release's. That of before starts beside it all the same, in the middle
    /// of a roll-out or after one that was taken back, so a migration MUST leave what the release before it reads and writes.
    pub fn new(table: &'static str, mut postgres: Migrator, mut sqlite: Migrator) -> Self {
        for migrator in [&mut postgres, &mut sqlite] {
            migrator.dangerous_set_table_name(table);
            migrator.set_ignore_missing(true);
        }
        Self { table, postgres, sqlite }
    }
}

impl Db {
    /// Applies what is missing; several processes may do so at once.
    ///
    /// # Errors
    ///
    /// [`Error::Migrate`] when a migration fails, or was changed after it had been applied.
    pub async fn migrate(&self, migrations: &Migrations) -> Result<()> {
        let result = match self {
            Self::Postgres(pool) => {
                // A connection of its own: a failed run keeps sqlx's advisory lock until its connection ends.
                let mut connection = pool.connect_options().connect().await?;
                // A change of a large table takes as long as it takes, and so does waiting for another process to make it.
                sqlx::query("SET statement_timeout = 0").execute(&mut connection).await?;
                sqlx::query("SET lock_timeout = 0").execute(&mut connection).await?;
                // Not `run`: its future is not `Send` in the eyes of the compiler.
                let result = migrations.postgres.run_direct(None, &mut connection, false).await;
                connection.close().await?;
                result
            }
            Self::Sqlite { write, .. } => {
                // sqlx takes no lock on SQLite: two processes would apply the same file. Inside this transaction each
                // migration's own becomes a savepoint.
                let mut tx = write.begin_with("BEGIN IMMEDIATE").await?;
                let result = migrations.sqlite.run_direct(None, &mut *tx, false).await;
                if result.is_ok() {
                    tx.commit().await?;
                }
                result
            }
            #[cfg(feature = "simulation")]
            Self::Simulated(engine) => {
                let mut connection = engine.connection().await;
                crate::simulated::at_once(migrations.sqlite.run_direct(None, &mut *connection, false))
            }
        };
        result.map_err(|source| Error::Migrate { table: migrations.table, source })
    }
}
