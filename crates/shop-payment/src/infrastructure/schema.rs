//! The tables of this service, and of the provider that comes with it.

use sinew_sql::Migrations;

/// This service's migrations, for both databases.
pub fn migrations() -> Migrations {
    Migrations::new("_migrations_payment", sqlx::migrate!("migrations/postgres"), sqlx::migrate!("migrations/sqlite"))
}

/// The embedded provider's, for both databases.
pub fn provider_migrations() -> Migrations {
    Migrations::new(
        "_migrations_payment_provider",
        sqlx::migrate!("migrations/provider/postgres"),
        sqlx::migrate!("migrations/provider/sqlite"),
    )
}
