//! The tables of this service.

use sinew_sql::Migrations;

/// This service's migrations, for both databases.
pub fn migrations() -> Migrations {
    Migrations::new("_migrations_product", sqlx::migrate!("migrations/postgres"), sqlx::migrate!("migrations/sqlite"))
}
