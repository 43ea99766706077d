//! The warehouse on SQLite or PostgreSQL.
//!
//! Every change is one transaction: the reservation's row first (who comes second waits there), then the stock in the
//! order of product ids, then the events. So concurrent requests for one id run one after the other, and requests for
//! the same products never deadlock.

use super::{events::Events, rows};
use crate::domain::{
    Adjustment, Decision, Error, Lines, Page, ProductId, Reservation, ReservationId, ReservationState, Stock, Warehouse, release,
    reserve,
};
use chrono::{DateTime, Utc};
use sinew_core::{Clock, failpoint, planted};
use sinew_events::{
    Outbox,
    idempotency::{self, Claim, Fingerprint, Key},
};
use sinew_sql::{Db, retry};
use std::sync::Arc;
use uuid::Uuid;

/// Stock and reservations in a SQL database.
#[derive(Debug, Clone)]
pub struct SqlWarehouse {
    pub(super) db: Db,
    events: Events,
    pub(super) clock: Arc<dyn Clock>,
}

impl SqlWarehouse {
    /// On a migrated database; `outbox` wakes whoever delivers its events.
    pub fn new(db: Db, outbox: Outbox, clock: Arc<dyn Clock>) -> Self {
        Self { db, events: Events { outbox }, clock }
    }

    async fn try_adjust(&self, adjustment: &Adjustment) -> Result<Stock, Error> {
        let key = Key { caller: &adjustment.caller.0, key: &adjustment.key };
        let request = [adjustment.product.0.as_bytes().as_slice(), &adjustment.delta.to_be_bytes()].concat();
        let now = self.now();
        let mut tx = self.db.begin().await?;
        match idempotency::claim(&mut tx, key, &Fingerprint::of("AdjustStock", &request), now).await? {
            Claim::Repeat(answer) => return rows::decode(&answer),
            Claim::First => {}
        }
        rows::ensure_stock(&mut tx, adjustment.product).await?;
        let before = rows::lock_stock(&mut tx, adjustment.product).await?.ok_or(Error::NotFound)?;
        let after = before.adjusted(adjustment.delta)?;
        rows::put_stock(&mut tx, &after).await?;
        self.events.changed(&mut tx, &after, adjustment.delta, now).await?;
        idempotency::answer(&mut tx, key, &rows::encode(&after)).await?;
        tx.commit().await?;
        Ok(after)
    }

    async fn try_reserve(&self, id: ReservationId, lines: &Lines) -> Result<Reservation, Error> {
        let now = self.now();
        let id = if planted!(RepeatReservesAgain) { ReservationId(Uuid::now_v7()) } else { id };
        let mut tx = self.db.begin().await?;
        if !rows::claim(&mut tx, id, &ReservationState::Reserved, now).await? {
            let before = rows::lock_reservation(&mut tx, id).await?.ok_or(Error::Released)?;
            return match reserve(Some(&before), lines, &[]) {
                Decision::OtherLines => Err(Error::OtherLines),
                Decision::AlreadyReleased => Err(Error::Released),
                Decision::Unchanged | Decision::Write(..) => Ok(before),
            };
        }
        let stock = rows::lock_all(&mut tx, lines).await?;
        let Decision::Write(levels, state) = reserve(None, lines, &stock) else { return Err(Error::Released) };
        rows::put_state(&mut tx, id, &state, now).await?;
        rows::put_lines(&mut tx, id, lines, &state).await?;
        for level in &levels {
            rows::put_stock(&mut tx, level).await?;
            self.events.reserved(&mut tx, level, id, lines.of(level.product), now).await?;
        }
        failpoint!("inventory.reserve.before_commit");
        tx.commit().await?;
        Ok(Reservation { id, lines: lines.clone(), state, created: now, updated: now })
    }

    async fn try_release(&self, id: ReservationId) -> Result<Reservation, Error> {
        let now = self.now();
        let mut tx = self.db.begin().await?;
        // With nothing to release the row is the tombstone that refuses a reserve which is still on its way.
        let before = match rows::claim(&mut tx, id, &ReservationState::Released, now).await? {
            true => None,
            false => rows::lock_reservation(&mut tx, id).await?,
        };
        let held = before.iter().filter(|before| before.state == ReservationState::Reserved).map(|before| &before.lines);
        let mut stock = Vec::new();
        for lines in held {
            stock = rows::lock_all(&mut tx, lines).await?;
        }
        let lines = before.as_ref().map(|before| before.lines.clone()).unwrap_or_default();
        let created = before.as_ref().map_or(now, |before| before.created);
        let Decision::Write(levels, state) = release(before.as_ref(), &stock) else {
            return before.ok_or(Error::Released);
        };
        if before.is_some() {
            rows::put_state(&mut tx, id, &state, now).await?;
        }
        for level in &levels {
            rows::put_stock(&mut tx, level).await?;
            self.events.released(&mut tx, level, id, lines.of(level.product), now).await?;
        }
        planted!(ReleaseWithoutTombstone => if before.is_none() { tx = self.db.snapshot().await?; });
        failpoint!("inventory.release.before_commit");
        tx.commit().await?;
        Ok(Reservation { id, lines, state, created, updated: now })
    }

    fn now(&self) -> DateTime<Utc> {
        sinew_sql::now(&*self.clock)
    }
}

impl Warehouse for SqlWarehouse {
    async fn stock(&self, product: ProductId) -> Result<Stock, Error> {
        let mut tx = self.db.snapshot().await?;
        rows::stock(&mut tx, product).await?.ok_or(Error::NotFound)
    }

    async fn adjust(&self, adjustment: &Adjustment) -> Result<Stock, Error> {
        retry(|| self.try_adjust(adjustment)).await
    }

    async fn reserve(&self, id: ReservationId, lines: &Lines) -> Result<Reservation, Error> {
        let reservation = retry(|| self.try_reserve(id, lines)).await?;
        failpoint!("inventory.reserve.after_commit");
        reservation.answer()
    }

    async fn release(&self, id: ReservationId) -> Result<Reservation, Error> {
        let reservation = retry(|| self.try_release(id)).await?;
        failpoint!("inventory.release.after_commit");
        Ok(reservation)
    }

    async fn reservations(&self, page: Page) -> Result<Vec<Reservation>, Error> {
        Ok(rows::reservations(&mut self.db.snapshot().await?, page).await?)
    }
}

impl From<sinew_sql::Error> for Error {
    fn from(error: sinew_sql::Error) -> Self {
        if error.is_unavailable() { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

impl From<idempotency::Error> for Error {
    fn from(error: idempotency::Error) -> Self {
        match error {
            idempotency::Error::Reused => Self::KeyReused,
            idempotency::Error::Sql(error) => error.into(),
        }
    }
}

impl sinew_sql::Retry for Error {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(cause) if cause.downcast_ref::<sinew_sql::Error>().is_some_and(sinew_sql::Error::is_transient))
    }
}
