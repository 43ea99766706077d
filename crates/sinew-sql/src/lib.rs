//! One SQL code path over PostgreSQL and SQLite.
//!
//! The two databases meet in an enum at the driver: [`Db`] opens and begins, a [`Tx`] runs statements, a statement is
//! one text for both or a pair where the dialects differ. Stores above are concrete types without generics or macros.
//!
//! ```no_run
//! # async fn rename(db: &sinew_sql::Db, id: i64, name: &str) -> sinew_sql::Result<bool> {
//! sinew_sql::retry(|| async {
//!     let mut tx = db.begin().await?;
//!     let renamed = tx.q("UPDATE users SET name = $2 WHERE id = $1").bind(id).bind(name).run().await? == 1;
//!     tx.commit().await?;
//!     Ok(renamed)
//! })
//! .await
//! # }
//! ```
//!
//! Rules for statements that must run on both:
//!
//! - placeholders are `$1`, casts are `CAST(x AS t)`, columns are named and never `*`;
//! - times are bound from [`now`], never taken from the database, whose `now()` differs;
//! - integers are `bigint` columns and `i64`;
//! - `INSERT … SELECT … ON CONFLICT` needs `WHERE true` before `ON` for SQLite's parser;
//! - `RETURNING` has no order: sort in Rust;
//! - PostgreSQL runs READ COMMITTED and SQLite serialises writers: guard by `WHERE version = $n`, `ON CONFLICT` or a row
//!   lock, or a race passes every test on SQLite.

mod db;
mod error;
mod listen;
mod migrations;
mod retry;
#[cfg(feature = "simulation")]
pub mod simulated;
mod time;
mod tx;
mod url;

pub use db::{DEFAULT_CONNECTIONS, Db};
pub use error::{Error, Result};
pub use listen::Listener;
pub use migrations::Migrations;
pub use retry::{Retry, retry};
pub use time::now;
pub use tx::{Arg, Record, Sql, Statement, Tx};
