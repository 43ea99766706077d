//! Sagas as rows. Every write of an owner is conditional on its epoch.

use crate::{
    definition::Outputs,
    machine::{Phase, Reason, State},
};
use chrono::{DateTime, Utc};
use sinew_core::planted;
use sinew_sql::{Db, Result, Tx, retry};
use sqlx::types::Json;
use uuid::Uuid;

/// A saga's row, without what only the database needs.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) saga_id: Uuid,
    pub(crate) kind: String,
    pub(crate) version: i64,
    phase: String,
    step: i64,
    uncertain: bool,
    parked: bool,
    attempt: i64,
    reason_code: Option<String>,
    reason_detail: Option<String>,
    pub(crate) cancel_code: Option<String>,
    pub(crate) last_error: Option<String>,
    pub(crate) data: serde_json::Value,
    pub(crate) outputs: Json<Outputs>,
    pub(crate) traceparent: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) epoch: i64,
    pub(crate) started_at: DateTime<Utc>,
    step_since: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "saga_id, kind, version, phase, step, uncertain, parked, attempt, reason_code, reason_detail, cancel_code, last_error, data, \
         outputs, traceparent, owner, epoch, started_at, step_since, updated_at"
    };
}

impl Row {
    pub(crate) fn state(&self) -> State {
        let reason = self.reason_code.clone().map(|code| Reason::new(code, self.reason_detail.clone().unwrap_or_default()));
        State {
            // The column's check allows no other words.
            phase: Phase::from_name(&self.phase).unwrap_or(Phase::Failed),
            step: usize::try_from(self.step).unwrap_or(0),
            uncertain: self.uncertain,
            parked: self.parked,
            attempt: u32::try_from(self.attempt).unwrap_or(u32::MAX),
            step_since: self.step_since,
            reason,
        }
    }
}

/// A line of a saga's history.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LogEntry {
    /// 1, 2, 3 …
    pub n: i64,
    /// The owner's epoch.
    pub epoch: i64,
    /// The coordinator that wrote it, unless nobody owned the saga.
    pub owner: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// The step it was about: `reserve`.
    pub step: String,
    /// What happened: `done`, `compensating`.
    pub event: String,
    /// Why, if there is a reason.
    pub detail: String,
}

/// The right to write one saga, as long as nobody took it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: Uuid,
    pub(crate) epoch: i64,
}

/// A new saga's row. Without an owner the next coordinator that looks takes it.
pub(crate) struct NewSaga<'a> {
    pub(crate) id: Uuid,
    pub(crate) kind: &'a str,
    pub(crate) version: i64,
    pub(crate) data: serde_json::Value,
    pub(crate) traceparent: Option<String>,
    pub(crate) owner: Option<&'a str>,
    pub(crate) due: DateTime<Utc>,
    pub(crate) now: DateTime<Utc>,
}

impl NewSaga<'_> {
    /// The row as it will be read.
    pub(crate) fn row(&self) -> Row {
        Row {
            saga_id: self.id,
            kind: self.kind.to_owned(),
            version: self.version,
            phase: Phase::Started.name().to_owned(),
            step: 0,
            uncertain: false,
            parked: false,
            attempt: 0,
            reason_code: None,
            reason_detail: None,
            cancel_code: None,
            last_error: None,
            data: self.data.clone(),
            outputs: Json::default(),
            traceparent: self.traceparent.clone(),
            owner: self.owner.map(str::to_owned),
            epoch: 1,
            started_at: self.now,
            step_since: self.now,
            updated_at: self.now,
        }
    }
}

pub(crate) async fn insert(tx: &mut Tx, new: NewSaga<'_>) -> Result<()> {
    let sql = "INSERT INTO sagas (saga_id, kind, version, phase, step, uncertain, parked, attempt, data, traceparent, owner, epoch,
                                  due_at, started_at, step_since, updated_at)
               VALUES ($1, $2, $8, 'started', 0, false, false, 0, $3, $4, $5, 1, $6, $7, $7, $7)";
    tx.q(sql)
        .bind(new.id)
        .bind(new.kind)
        .bind(new.data)
        .bind(new.traceparent)
        .bind(new.owner)
        .bind(new.due)
        .bind(new.now)
        .bind(new.version)
        .run()
        .await?;
    log(tx, Lease { id: new.id, epoch: 1 }, Entry { at: new.now, step: "", event: "started", detail: "" }).await
}

/// Locks the row for its owner; `None` when somebody else owns it now.
pub(crate) async fn lock(tx: &mut Tx, lease: Lease) -> Result<Option<Row>> {
    planted!(SagaWithoutFence => return get(tx, lease.id).await);
    let sql = (
        concat!("SELECT ", columns!(), " FROM sagas WHERE saga_id = $1 AND epoch = $2 FOR UPDATE"),
        concat!("SELECT ", columns!(), " FROM sagas WHERE saga_id = $1 AND epoch = $2"),
    );
    tx.q(sql).bind(lease.id).bind(lease.epoch).opt().await
}

/// What is to be written of a saga.
pub(crate) struct Update<'a> {
    pub(crate) state: &'a State,
    pub(crate) outputs: &'a Outputs,
    pub(crate) last_error: Option<&'a str>,
    /// When others may take it; none when nobody should.
    pub(crate) due: Option<DateTime<Utc>>,
    pub(crate) now: DateTime<Utc>,
}

/// Writes a saga that is locked.
pub(crate) async fn put(tx: &mut Tx, lease: Lease, update: Update<'_>) -> Result<()> {
    let Update { state, outputs, last_error, due, now } = update;
    // An ended or parked saga belongs to nobody.
    let sql =
        "UPDATE sagas SET phase = $3, step = $4, uncertain = $5, parked = $6, attempt = $7, reason_code = $8, reason_detail = $9,
                      last_error = $10, due_at = $11, step_since = $12, updated_at = $13,
                      owner = CASE WHEN $14 THEN owner ELSE NULL END, outputs = $15
                WHERE saga_id = $1 AND epoch = $2";
    let reason = state.reason.as_ref();
    tx.q(sql)
        .bind(lease.id)
        .bind(lease.epoch)
        .bind(state.phase.name())
        .bind(i64::try_from(state.step).unwrap_or(i64::MAX))
        .bind(state.uncertain)
        .bind(state.parked)
        .bind(i64::from(state.attempt))
        .bind(reason.map(|reason| &*reason.code))
        .bind(reason.map(|reason| &*reason.detail))
        .bind(last_error)
        .bind(due)
        .bind(state.step_since)
        .bind(now)
        .bind(due.is_some())
        .bind(Json(outputs))
        .run()
        .await
        .map(drop)
}

/// A line of history about to be written.
pub(crate) struct Entry<'a> {
    pub(crate) at: DateTime<Utc>,
    pub(crate) step: &'a str,
    pub(crate) event: &'a str,
    pub(crate) detail: &'a str,
}

pub(crate) async fn log(tx: &mut Tx, lease: Lease, entry: Entry<'_>) -> Result<()> {
    let sql = "INSERT INTO saga_log (saga_id, n, epoch, owner, at, step, event, detail)
               SELECT $1, (SELECT coalesce(max(n), 0) + 1 FROM saga_log WHERE saga_id = $1), $2, owner, $3, $4, $5, $6
                 FROM sagas WHERE saga_id = $1";
    tx.q(sql)
        .bind(lease.id)
        .bind(lease.epoch)
        .bind(entry.at)
        .bind(entry.step)
        .bind(entry.event)
        .bind(entry.detail)
        .run()
        .await
        .map(drop)
}

/// Takes at most `limit` sagas that nobody holds, oldest first, each under a new epoch. Whoever held them may have called a
/// participant without telling, so the step under way is uncertain from now on.
pub(crate) async fn claim(
    db: &Db,
    kind: &str,
    owner: &str,
    now: DateTime<Utc>,
    due: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Row>> {
    // Looking is free of locks; most looks find nothing.
    let sql = "SELECT saga_id FROM sagas WHERE kind = $1 AND due_at <= $2 LIMIT 1";
    if db.snapshot().await?.q(sql).bind(kind).bind(now).opt::<(Uuid,)>().await?.is_none() {
        return Ok(Vec::new());
    }
    retry(|| async {
        let mut tx = db.begin().await?;
        let sql = (
            concat!(
                "UPDATE sagas SET uncertain = uncertain OR owner IS NOT NULL, owner = $3, epoch = epoch + 1, due_at = $4
                  WHERE saga_id IN (SELECT saga_id FROM sagas WHERE kind = $1 AND due_at <= $2 ORDER BY due_at LIMIT $5
                                       FOR UPDATE SKIP LOCKED)
              RETURNING ",
                columns!()
            ),
            concat!(
                "UPDATE sagas SET uncertain = uncertain OR owner IS NOT NULL, owner = $3, epoch = epoch + 1, due_at = $4
                  WHERE saga_id IN (SELECT saga_id FROM sagas WHERE kind = $1 AND due_at <= $2 ORDER BY due_at LIMIT $5)
              RETURNING ",
                columns!()
            ),
        );
        let mut rows = tx.q(sql).bind(kind).bind(now).bind(owner).bind(due).bind(limit).all::<Row>().await?;
        planted!(TakeoverForgetsUncertain => rows.iter_mut().for_each(|row| row.uncertain = false));
        tx.commit().await?;
        rows.sort_by_key(|row| (row.started_at, row.saga_id));
        Ok(rows)
    })
    .await
}

/// Prolongs the leases of these sagas and answers those that are still the owner's.
pub(crate) async fn renew(db: &Db, owner: &str, ids: &[Uuid], due: DateTime<Utc>) -> Result<Vec<Uuid>> {
    // Neither database takes a list of ids the way the other does; JSON is what both unpack.
    let sql = (
        "UPDATE sagas SET due_at = $3 WHERE owner = $1 AND due_at IS NOT NULL
            AND saga_id IN (SELECT CAST(v AS uuid) FROM jsonb_array_elements_text($2) AS v) RETURNING saga_id",
        "UPDATE sagas SET due_at = $3 WHERE owner = $1 AND due_at IS NOT NULL
            AND saga_id IN (SELECT unhex(value) FROM json_each($2)) RETURNING saga_id",
    );
    let list = serde_json::Value::from_iter(ids.iter().map(|id| id.simple().to_string()));
    retry(|| async {
        let mut tx = db.begin().await?;
        let kept = tx.q(sql).bind(owner).bind(&list).bind(due).all::<(Uuid,)>().await?;
        tx.commit().await?;
        Ok(kept.into_iter().map(|(id,)| id).collect())
    })
    .await
}

/// Gives back whatever the owner still holds, so that others need not wait for its leases to end.
pub(crate) async fn release(db: &Db, owner: &str, now: DateTime<Utc>) -> Result<u64> {
    retry(|| async {
        let mut tx = db.begin().await?;
        let sql = "UPDATE sagas SET due_at = $2 WHERE owner = $1 AND due_at IS NOT NULL";
        let released = tx.q(sql).bind(owner).bind(now).run().await?;
        tx.commit().await?;
        Ok(released)
    })
    .await
}

/// Asks for the saga's end if it is not too late, and answers its phase; `None` when there is no such saga.
pub(crate) async fn cancel(tx: &mut Tx, id: Uuid, code: &str) -> Result<Option<Phase>> {
    let sql = "UPDATE sagas SET cancel_code = CASE WHEN phase IN ('started', 'processing') THEN coalesce(cancel_code, $2)
                                                   ELSE cancel_code END
                WHERE saga_id = $1 RETURNING phase";
    let row = tx.q(sql).bind(id).bind(code).opt::<(String,)>().await?;
    Ok(row.and_then(|(phase,)| Phase::from_name(&phase)))
}

/// Takes a parked saga for a moment: under a new epoch, so that it is written as by an owner.
pub(crate) async fn take_parked(tx: &mut Tx, id: Uuid) -> Result<Option<Row>> {
    let sql = concat!("UPDATE sagas SET epoch = epoch + 1 WHERE saga_id = $1 AND parked RETURNING ", columns!());
    tx.q(sql).bind(id).opt().await
}

pub(crate) async fn get(tx: &mut Tx, id: Uuid) -> Result<Option<Row>> {
    tx.q(concat!("SELECT ", columns!(), " FROM sagas WHERE saga_id = $1")).bind(id).opt().await
}

pub(crate) async fn history(tx: &mut Tx, id: Uuid) -> Result<Vec<LogEntry>> {
    let sql = "SELECT n, epoch, owner, at, step, event, detail FROM saga_log WHERE saga_id = $1 ORDER BY n";
    tx.q(sql).bind(id).all().await
}

/// Newest first, before `before`; all phases or one; all or only the parked.
pub(crate) async fn list(db: &Db, phase: Option<Phase>, parked: bool, before: Uuid, limit: i64) -> Result<Vec<Row>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM sagas WHERE saga_id < $1 AND ($2 = '' OR phase = $2) AND (parked OR NOT $3) ORDER BY saga_id DESC LIMIT $4"
    );
    db.snapshot().await?.q(sql).bind(before).bind(phase.map_or("", Phase::name)).bind(parked).bind(limit).all().await
}

/// Open sagas of one kind in one phase.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Open {
    pub(crate) phase: String,
    pub(crate) parked: bool,
    pub(crate) count: i64,
    pub(crate) oldest: DateTime<Utc>,
}

/// How many of a kind are open, by phase and whether parked, and since when.
pub(crate) async fn open(db: &Db, kind: &str) -> Result<Vec<Open>> {
    let sql = "SELECT phase, parked, count(*) AS count, min(started_at) AS oldest FROM sagas
                WHERE kind = $1 AND phase IN ('started', 'processing', 'compensating') GROUP BY phase, parked";
    db.snapshot().await?.q(sql).bind(kind).all().await
}
