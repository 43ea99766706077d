//! Requests that may be repeated: the first one acts, later ones get its answer.
//!
//! ```no_run
//! # use sinew_events::idempotency::{self, Claim, Error, Fingerprint, Key};
//! # async fn place(db: &sinew_sql::Db, now: chrono::DateTime<chrono::Utc>, request: &[u8]) -> Result<Vec<u8>, Error> {
//! let key = Key { caller: "user:0190…", key: "5f2b…" };
//! let mut tx = db.begin().await?;
//! let answer = match idempotency::claim(&mut tx, key, &Fingerprint::of("PlaceOrder", request), now).await? {
//!     Claim::Repeat(answer) => return Ok(answer),
//!     Claim::First => b"what the effect answers".to_vec(),
//! };
//! idempotency::answer(&mut tx, key, &answer).await?;
//! tx.commit().await?;
//! # Ok(answer)
//! # }
//! ```
//!
//! Claim, effect and answer are one transaction, so a request that failed leaves its key free, and two at once run one
//! after the other. Keys are kept for [`KEPT`] and belong to their caller.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sinew_core::{Clock, planted};
use sinew_sql::{Db, Retry, Tx, now, retry};
use std::time::Duration;

/// How long a key is remembered: longer than anyone retries, short enough that the table stays small.
pub const KEPT: TimeDelta = TimeDelta::hours(24);

/// How often old keys are looked for. 10 minutes: the table is that little larger than it must be.
const SWEEP: Duration = Duration::from_secs(600);

/// Rows deleted per transaction of a sweep: writers wait for no more than some milliseconds.
const BATCH: i64 = 1_000;

/// Whose key, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// Who asks: keys of different callers never meet.
    pub caller: &'a str,
    /// What the caller chose.
    pub key: &'a str,
}

/// Tells whether a repeat asks for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a method and the request's bytes, which must be encoded the same way each time.
    pub fn of(method: &str, request: &[u8]) -> Self {
        Self(Sha256::new().chain_update(method).chain_update([0]).chain_update(request).finalize().into())
    }
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The first: act, then [`answer`].
    First,
    /// A repeat: this was the answer.
    Repeat(Vec<u8>),
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller used the key for another request: INVALID_ARGUMENT.
    #[error("the idempotency key was used for another request")]
    Reused,
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] sinew_sql::Error),
}

impl Retry for Error {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Sql(error) if error.is_transient())
    }
}

/// Claims a key; whoever else claims it waits until this transaction ends.
///
/// # Errors
///
/// [`Error::Reused`] when the key belongs to another request.
pub async fn claim(tx: &mut Tx, key: Key<'_>, fingerprint: &Fingerprint, now: DateTime<Utc>) -> Result<Claim, Error> {
    let sql = "INSERT INTO idempotency (caller, key, fingerprint, created_at) VALUES ($1, $2, $3, $4)
               ON CONFLICT (caller, key) DO UPDATE
                  SET fingerprint = excluded.fingerprint, response = NULL, created_at = excluded.created_at
                WHERE idempotency.created_at < $5";
    let claimed = tx.q(sql).bind(key.caller).bind(key.key).bind(&fingerprint.0[..]).bind(now).bind(now - KEPT).run().await?;
    if claimed == 1 {
        return Ok(Claim::First);
    }
    let sql = "SELECT fingerprint, response FROM idempotency WHERE caller = $1 AND key = $2";
    match tx.q(sql).bind(key.caller).bind(key.key).one::<(Vec<u8>, Option<Vec<u8>>)>().await? {
        (stored, Some(response)) if stored == fingerprint.0 || planted!(KeyAnswersOtherRequests) => Ok(Claim::Repeat(response)),
        _ => Err(Error::Reused),
    }
}

/// Keeps the answer for repeats, in the transaction that claimed the key.
pub async fn answer(tx: &mut Tx, key: Key<'_>, response: &[u8]) -> Result<(), sinew_sql::Error> {
    let sql = "UPDATE idempotency SET response = $3 WHERE caller = $1 AND key = $2";
    tx.q(sql).bind(key.caller).bind(key.key).bind(response).run().await.map(drop)
}

/// Forgets keys older than [`KEPT`] and answers how many.
pub async fn sweep(db: &Db, now: DateTime<Utc>) -> Result<u64, sinew_sql::Error> {
    let mut forgotten = 0;
    loop {
        let batch = retry(|| async {
            let mut tx = db.begin().await?;
            let sql = "DELETE FROM idempotency WHERE (caller, key) IN
                         (SELECT caller, key FROM idempotency WHERE created_at < $1 LIMIT $2)";
            let batch = tx.q(sql).bind(now - KEPT).bind(BATCH).run().await?;
            tx.commit().await?;
            Ok::<_, sinew_sql::Error>(batch)
        })
        .await?;
        forgotten += batch;
        if batch < BATCH.cast_unsigned() {
            return Ok(forgotten);
        }
    }
}

/// Sweeps now and every 10 minutes, for ever: a service runs it beside its server.
///
/// # Cancel safety
///
/// Dropping the future ends the sweeping.
pub async fn keep_swept(db: &Db, clock: &dyn Clock) {
    loop {
        match sweep(db, now(clock)).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!(forgotten, "old idempotency keys forgotten"),
            Err(error) => tracing::warn!(%error, "old idempotency keys not forgotten; trying again later"),
        }
        tokio::time::sleep(SWEEP).await;
    }
}
