//! Payments on SQLite or PostgreSQL.
//!
//! Every change is one transaction of one row and its event, conditional on the version that was read. No lock is held
//! while the provider is asked: two replicas may ask it about the same payment (it honours the key), the first answer
//! recorded wins.

use super::events;
use crate::domain::{
    Books, Charge, CustomerId, Error, Fingerprint, Money, Opened, Page, Payment, PaymentId, PaymentState, Requested, StateName,
};
use chrono::{DateTime, SubsecRound, Utc};
use sinew_core::{Clock, failpoint, planted};
use sinew_events::Outbox;
use sinew_sql::{Db, Tx, retry};
use std::sync::Arc;
use uuid::Uuid;

/// Payments in a SQL database.
#[derive(Debug, Clone)]
pub struct SqlBooks {
    db: Db,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
}

#[derive(sqlx::FromRow)]
struct Row {
    payment_id: Uuid,
    request: Option<Vec<u8>>,
    customer_id: Option<Uuid>,
    minor_units: Option<i64>,
    currency: Option<String>,
    state: String,
    provider_reference: Option<String>,
    decline_reason: Option<String>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "payment_id, request, customer_id, minor_units, currency, state, provider_reference, decline_reason, version, created_at, updated_at"
    };
}

impl SqlBooks {
    /// On a migrated database; `outbox` wakes whoever delivers its events.
    pub fn new(db: Db, outbox: Outbox, clock: Arc<dyn Clock>) -> Self {
        Self { db, outbox, clock }
    }

    async fn try_open(&self, charge: &Charge) -> Result<Opened, Error> {
        let mut tx = self.db.begin().await?;
        let payment = Payment::pending(charge, self.now());
        if insert(&mut tx, &payment).await? {
            tx.commit().await?;
            return Ok(Opened { payment, new: true });
        }
        let payment = find(&mut tx, charge.id).await?.ok_or(Error::NotFound)?;
        Ok(Opened { payment, new: false })
    }

    async fn try_open_refund(&self, id: PaymentId) -> Result<Payment, Error> {
        let mut tx = self.db.begin().await?;
        let tombstone = Payment::tombstone(id, self.now());
        if insert(&mut tx, &tombstone).await? {
            planted!(RefundWithoutTombstone => return Ok(tombstone));
            tx.commit().await?;
            return Ok(tombstone);
        }
        let payment = lock(&mut tx, id).await?.ok_or(Error::NotFound)?;
        match payment.refunding(self.now()) {
            Some(next) => {
                update(&mut tx, &next).await?;
                tx.commit().await?;
                Ok(next)
            }
            None => Ok(payment),
        }
    }

    async fn try_record(&self, next: &Payment) -> Result<Payment, Error> {
        let mut tx = self.db.begin().await?;
        if update(&mut tx, next).await? {
            events::append(&self.outbox, &mut tx, next).await?;
            match next.state {
                PaymentState::Refunded | PaymentState::Voided => {
                    failpoint!("payment.refund.before_commit");
                }
                _ => {
                    failpoint!("payment.charge.before_commit");
                }
            }
            tx.commit().await?;
            return Ok(next.clone());
        }
        find(&mut tx, next.id).await?.ok_or(Error::NotFound)
    }

    fn now(&self) -> DateTime<Utc> {
        sinew_sql::now(&*self.clock)
    }
}

impl Books for SqlBooks {
    async fn open(&self, charge: &Charge) -> Result<Opened, Error> {
        retry(|| self.try_open(charge)).await
    }

    async fn open_refund(&self, id: PaymentId) -> Result<Payment, Error> {
        retry(|| self.try_open_refund(id)).await
    }

    async fn record(&self, next: &Payment) -> Result<Payment, Error> {
        let next = Payment { updated: next.updated.trunc_subsecs(6), ..next.clone() };
        retry(|| self.try_record(&next)).await
    }

    async fn get(&self, id: PaymentId) -> Result<Payment, Error> {
        let mut tx = self.db.snapshot().await?;
        find(&mut tx, id).await?.ok_or(Error::NotFound)
    }

    async fn list(&self, page: Page) -> Result<Vec<Payment>, Error> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM payments WHERE payment_id > $1 AND ($2 = '' OR state = $2) ORDER BY payment_id LIMIT $3"
        );
        let after = page.after.map_or(Uuid::nil(), |id| id.0);
        let state = page.state.map_or("", state_name);
        let mut tx = self.db.snapshot().await?;
        tx.q(sql).bind(after).bind(state).bind(page.limit).all::<Row>().await?.into_iter().map(Payment::try_from).collect()
    }
}

/// Takes the id: true when nobody had it. Whoever else wants it waits until this transaction ends.
async fn insert(tx: &mut Tx, payment: &Payment) -> Result<bool, Error> {
    let sql = "INSERT INTO payments
                 (payment_id, request, customer_id, minor_units, currency, state, version, created_at, updated_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
    let request = payment.request.as_ref();
    let rows = tx
        .q(sql)
        .bind(payment.id.0)
        .bind(request.map(|request| &request.fingerprint.0[..]))
        .bind(request.map(|request| request.customer.0))
        .bind(request.map(|request| request.money.minor_units()))
        .bind(request.map(|request| request.money.currency().code()))
        .bind(state_name(payment.state.name()))
        .bind(payment.version)
        .bind(payment.created)
        .bind(payment.updated)
        .run()
        .await?;
    Ok(rows == 1)
}

/// Writes the state, unless somebody else wrote one since the version before it.
async fn update(tx: &mut Tx, next: &Payment) -> Result<bool, Error> {
    // What the provider said stays when a refund follows.
    let sql = "UPDATE payments SET state = $3, version = version + 1, updated_at = $4,
                      provider_reference = COALESCE($5, provider_reference), decline_reason = COALESCE($6, decline_reason)
                WHERE payment_id = $1 AND version = $2";
    let (reference, reason) = match &next.state {
        PaymentState::Charged { reference } => (Some(reference.as_str()), None),
        PaymentState::Declined { reason } => (None, Some(reason.as_str())),
        _ => (None, None),
    };
    let rows = tx
        .q(sql)
        .bind(next.id.0)
        .bind(next.version - 1)
        .bind(state_name(next.state.name()))
        .bind(next.updated)
        .bind(reference)
        .bind(reason)
        .run()
        .await?;
    Ok(rows == 1)
}

async fn find(tx: &mut Tx, id: PaymentId) -> Result<Option<Payment>, Error> {
    let sql = concat!("SELECT ", columns!(), " FROM payments WHERE payment_id = $1");
    tx.q(sql).bind(id.0).opt::<Row>().await?.map(Payment::try_from).transpose()
}

async fn lock(tx: &mut Tx, id: PaymentId) -> Result<Option<Payment>, Error> {
    let sql = (
        concat!("SELECT ", columns!(), " FROM payments WHERE payment_id = $1 FOR UPDATE"),
        concat!("SELECT ", columns!(), " FROM payments WHERE payment_id = $1"),
    );
    tx.q(sql).bind(id.0).opt::<Row>().await?.map(Payment::try_from).transpose()
}

fn state_name(state: StateName) -> &'static str {
    match state {
        StateName::Pending => "pending",
        StateName::Charged => "charged",
        StateName::Declined => "declined",
        StateName::Refunding => "refunding",
        StateName::Refunded => "refunded",
        StateName::Voided => "voided",
    }
}

impl TryFrom<Row> for Payment {
    type Error = Error;

    /// Money is not guessed at: a row that breaks the rules is an error, whoever wrote it.
    fn try_from(row: Row) -> Result<Self, Error> {
        let broken = |what: &str| Error::Internal(format!("payment {}: {what}", row.payment_id).into());
        let request = match (row.request, row.customer_id, row.minor_units, row.currency) {
            (Some(digest), Some(customer), Some(minor_units), Some(currency)) => Some(Requested {
                customer: CustomerId(customer),
                money: Money::new(minor_units, &currency).map_err(|_| broken("amount or currency"))?,
                fingerprint: Fingerprint(digest.try_into().map_err(|_| broken("request digest"))?),
            }),
            _ => None,
        };
        let state = match row.state.as_str() {
            "pending" => PaymentState::Pending,
            "charged" => PaymentState::Charged { reference: row.provider_reference.ok_or_else(|| broken("no reference"))? },
            "declined" => PaymentState::Declined { reason: row.decline_reason.ok_or_else(|| broken("no reason"))? },
            "refunding" => PaymentState::Refunding,
            "refunded" => PaymentState::Refunded,
            "voided" => PaymentState::Voided,
            _ => return Err(broken("state")),
        };
        Ok(Self {
            id: PaymentId(row.payment_id),
            request,
            state,
            version: row.version,
            created: row.created_at,
            updated: row.updated_at,
        })
    }
}

impl From<sinew_sql::Error> for Error {
    fn from(error: sinew_sql::Error) -> Self {
        if error.is_unavailable() { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

impl sinew_sql::Retry for Error {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(cause) if cause.downcast_ref::<sinew_sql::Error>().is_some_and(sinew_sql::Error::is_transient))
    }
}
