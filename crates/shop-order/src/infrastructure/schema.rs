//! The tables of this service.

use sinew_sql::Migrations;

/// Orders and the copies of users and products, recorded in `_migrations_order`.
pub fn migrations() -> Migrations {
    Migrations::new("_migrations_order", sqlx::migrate!("migrations/postgres"), sqlx::migrate!("migrations/sqlite"))
}
