//! The inventory service: how much of each product there is, and for whom.

mod domain;
mod infrastructure;

pub use domain::*;
pub use infrastructure::*;

#[cfg(test)]
async fn test_postgres() -> String {
    let admin = "postgres://postgres@127.0.0.1:5477/postgres";
    let name = format!("t{}", uuid::Uuid::now_v7().simple());
    let pool = sqlx::PgPool::connect(admin).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
    format!("postgres://postgres@127.0.0.1:5477/{name}")
}
