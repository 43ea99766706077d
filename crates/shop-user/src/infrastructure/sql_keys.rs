//! Token keys on SQLite or PostgreSQL, for all replicas.

use crate::domain::{Error, KeyRing, KeyStore, SigningKey};
use chrono::{DateTime, Utc};
use sinew_sql::{Db, Tx, retry};

/// Token keys in a SQL database.
#[derive(Debug, Clone)]
pub struct SqlKeys {
    db: Db,
}

#[derive(sqlx::FromRow)]
struct Row {
    generation: i64,
    kid: String,
    secret: Vec<u8>,
    signs_from: DateTime<Utc>,
}

impl SqlKeys {
    /// On a migrated database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    async fn try_add(&self, key: &SigningKey, keep_from: i64) -> Result<KeyRing, Error> {
        let mut tx = self.db.begin().await?;
        let sql = "INSERT INTO token_keys (generation, kid, secret, signs_from) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (generation) DO NOTHING";
        tx.q(sql).bind(key.generation).bind(key.kid.as_str()).bind(&key.secret[..]).bind(key.signs_from).run().await?;
        tx.q("DELETE FROM token_keys WHERE generation < $1").bind(keep_from).run().await?;
        let ring = all(&mut tx).await?;
        tx.commit().await?;
        Ok(ring)
    }
}

impl KeyStore for SqlKeys {
    async fn keys(&self) -> Result<KeyRing, Error> {
        all(&mut self.db.snapshot().await?).await
    }

    async fn add(&self, key: &SigningKey, keep_from: i64) -> Result<KeyRing, Error> {
        retry(|| self.try_add(key, keep_from)).await
    }
}

async fn all(tx: &mut Tx) -> Result<KeyRing, Error> {
    let sql = "SELECT generation, kid, secret, signs_from FROM token_keys ORDER BY generation";
    let rows: Vec<Row> = tx.q(sql).all().await?;
    let key = |row: Row| {
        let secret = row.secret.try_into().map_err(|_| Error::Internal(format!("token key {}: secret", row.kid).into()))?;
        Ok(SigningKey { generation: row.generation, kid: row.kid, secret, signs_from: row.signs_from })
    };
    Ok(KeyRing::new(rows.into_iter().map(key).collect::<Result<_, Error>>()?))
}
