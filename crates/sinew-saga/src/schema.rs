//! The tables of this crate.

use sinew_sql::Migrations;

/// The sagas and their history, recorded in `_migrations_saga`.
pub fn migrations() -> Migrations {
    Migrations::new("_migrations_saga", sqlx::migrate!("migrations/postgres"), sqlx::migrate!("migrations/sqlite"))
}
