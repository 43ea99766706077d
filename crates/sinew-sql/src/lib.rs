//! One SQL code path over PostgreSQL and SQLite.
