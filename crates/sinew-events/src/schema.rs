//! The tables of this crate.

use sinew_sql::Migrations;

/// Outbox, inbox and idempotency keys, recorded in `_migrations_events`.
pub fn migrations() -> Migrations {
    Migrations::new("_migrations_events", sqlx::migrate!("migrations/postgres"), sqlx::migrate!("migrations/sqlite"))
}
