//! The payment provider that comes with the shop: a bank in a file of its own.
//!
//! It stands where Stripe or Adyen would, so it keeps their promises and their troubles: it honours the key of a
//! charge, decides by token, and can take the money and lose the answer. What it moved is written to a ledger that
//! nothing else touches, which is what tests hold the payments against.
//!
//! | token | answer |
//! |---|---|
//! | `tok_ok` | taken |
//! | `tok_declined` | declined: `card_declined` |
//! | `tok_timeout` | **taken**, but the first charge is answered with "outcome unknown" |
//! | any other | declined: `unknown_token` |

use crate::domain::{Charge, Outcome, PaymentId, Provider, ProviderError, Undone};
use sinew_core::Clock;
use sinew_sql::{Db, Tx, retry};
use std::sync::Arc;
use uuid::Uuid;

/// A provider in a SQL database, usually a SQLite file that all replicas open.
#[derive(Debug, Clone)]
pub struct EmbeddedProvider {
    db: Db,
    clock: Arc<dyn Clock>,
}

/// What the provider holds under one key, summed from its ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The key: the payment's id.
    pub payment: PaymentId,
    /// Where it stands.
    pub state: LedgerState,
    /// How often money was taken. More than once is the fault everything here is built against.
    pub takings: i64,
    /// What is held now, in minor units.
    pub held: i64,
    /// Of which currency; none where no money ever moved.
    pub currency: Option<String>,
}

/// Where the provider stands with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerState {
    /// Holds the money.
    Taken,
    /// Refused the card.
    Declined,
    /// Took the money and gave it back.
    Returned,
    /// Took none and will take none.
    Closed,
}

#[derive(sqlx::FromRow)]
struct Row {
    state: String,
    minor_units: Option<i64>,
    currency: Option<String>,
    reference: Option<String>,
    decline_reason: Option<String>,
}

impl EmbeddedProvider {
    /// On a database migrated with this crate's provider migrations.
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }

    /// The outcome, and whether it is that of this very call.
    async fn try_charge(&self, charge: &Charge) -> Result<(Outcome, bool), ProviderError> {
        let declined = match charge.token.0.as_str() {
            "tok_ok" | "tok_timeout" => None,
            "tok_declined" => Some("card_declined"),
            _ => Some("unknown_token"),
        };
        let reference = declined.is_none().then(|| format!("ch_{}", charge.id.0.simple()));
        let (minor_units, currency) = (charge.money.minor_units(), charge.money.currency().code());
        let mut tx = self.db.begin().await?;
        let sql = "INSERT INTO charges (charge_key, minor_units, currency, state, reference, decline_reason)
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        let new = tx
            .q(sql)
            .bind(charge.id.0)
            .bind(minor_units)
            .bind(currency)
            .bind(if declined.is_some() { "declined" } else { "taken" })
            .bind(reference.as_deref())
            .bind(declined)
            .run()
            .await?;
        if new == 0 {
            return Ok((find(&mut tx, charge.id).await?.map_or(Outcome::Closed, Row::outcome), false));
        }
        if declined.is_none() {
            self.move_money(&mut tx, charge.id, minor_units, currency).await?;
        }
        tx.commit().await?;
        Ok((outcome(reference, declined.map(str::to_owned)), true))
    }

    async fn try_undo(&self, key: PaymentId) -> Result<Undone, ProviderError> {
        let mut tx = self.db.begin().await?;
        let sql = "INSERT INTO charges (charge_key, state) VALUES ($1, 'closed') ON CONFLICT DO NOTHING";
        if tx.q(sql).bind(key.0).run().await? == 1 {
            tx.commit().await?;
            return Ok(Undone::NothingTaken);
        }
        // Of two at once the second waits here, and then finds nothing to return.
        let sql = "UPDATE charges SET state = 'returned' WHERE charge_key = $1 AND state = 'taken'";
        let returned = tx.q(sql).bind(key.0).run().await? == 1;
        let Some(row) = find(&mut tx, key).await?.filter(|row| row.state == "returned") else {
            return Ok(Undone::NothingTaken);
        };
        if let (true, Some((minor_units, currency))) = (returned, row.minor_units.zip(row.currency)) {
            self.move_money(&mut tx, key, -minor_units, &currency).await?;
            tx.commit().await?;
        }
        Ok(Undone::Returned)
    }

    async fn move_money(&self, tx: &mut Tx, key: PaymentId, minor_units: i64, currency: &str) -> Result<(), ProviderError> {
        let sql = "INSERT INTO movements (charge_key, minor_units, currency, moved_at) VALUES ($1, $2, $3, $4)";
        tx.q(sql).bind(key.0).bind(minor_units).bind(currency).bind(sinew_sql::now(&*self.clock)).run().await?;
        Ok(())
    }
}

impl Provider for EmbeddedProvider {
    async fn charge(&self, charge: &Charge) -> Result<Outcome, ProviderError> {
        let (outcome, first) = retry(|| self.try_charge(charge)).await?;
        if first && charge.token.0 == "tok_timeout" {
            return Err(ProviderError::OutcomeUnknown);
        }
        Ok(outcome)
    }

    async fn find(&self, key: PaymentId) -> Result<Option<Outcome>, ProviderError> {
        let mut tx = self.db.snapshot().await?;
        Ok(find(&mut tx, key).await?.map(Row::outcome))
    }

    async fn undo(&self, key: PaymentId) -> Result<Undone, ProviderError> {
        retry(|| self.try_undo(key)).await
    }
}

/// All that the provider did, by key. For tests and checkers: reads only, from a database that services may be using.
pub async fn read_ledger(db: &Db) -> Result<Vec<LedgerEntry>, sinew_sql::Error> {
    let mut tx = db.snapshot().await?;
    let sql = "SELECT c.charge_key, c.state, c.currency,
                      CAST(COALESCE(SUM(CASE WHEN m.minor_units > 0 THEN 1 ELSE 0 END), 0) AS bigint) AS takings,
                      CAST(COALESCE(SUM(m.minor_units), 0) AS bigint) AS held
                 FROM charges c LEFT JOIN movements m ON m.charge_key = c.charge_key
                GROUP BY c.charge_key, c.state, c.currency ORDER BY c.charge_key";
    let rows: Vec<(Uuid, String, Option<String>, i64, i64)> = tx.q(sql).all().await?;
    let entry = |(key, state, currency, takings, held): (Uuid, String, _, _, _)| LedgerEntry {
        payment: PaymentId(key),
        state: match state.as_str() {
            "taken" => LedgerState::Taken,
            "declined" => LedgerState::Declined,
            "returned" => LedgerState::Returned,
            // The column's check allows four words.
            _ => LedgerState::Closed,
        },
        takings,
        held,
        currency,
    };
    Ok(rows.into_iter().map(entry).collect())
}

async fn find(tx: &mut Tx, key: PaymentId) -> Result<Option<Row>, ProviderError> {
    let sql = "SELECT state, minor_units, currency, reference, decline_reason FROM charges WHERE charge_key = $1";
    Ok(tx.q(sql).bind(key.0).opt().await?)
}

impl Row {
    fn outcome(self) -> Outcome {
        match self.state.as_str() {
            "returned" | "closed" => Outcome::Closed,
            _ => outcome(self.reference, self.decline_reason),
        }
    }
}

fn outcome(reference: Option<String>, declined: Option<String>) -> Outcome {
    match (reference, declined) {
        (Some(reference), _) => Outcome::Taken { reference },
        (None, reason) => Outcome::Declined { reason: reason.unwrap_or_default() },
    }
}

impl From<sinew_sql::Error> for ProviderError {
    fn from(error: sinew_sql::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl sinew_sql::Retry for ProviderError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(cause) if cause.downcast_ref::<sinew_sql::Error>().is_some_and(sinew_sql::Error::is_transient))
    }
}
