//! Rows as the database has them, and how they are read and written inside a transaction.

use crate::domain::{
    Error, Line, Lines, Page, ProductId, Reservation, ReservationId, ReservationState, Shortage, StateName, Stock,
};
use chrono::{DateTime, Utc};
use sinew_sql::Tx;
use uuid::Uuid;

type Result<T, E = sinew_sql::Error> = std::result::Result<T, E>;

#[derive(sqlx::FromRow)]
struct StockRow {
    product_id: Uuid,
    on_hand: i64,
    reserved: i64,
    version: i64,
}

impl From<StockRow> for Stock {
    fn from(row: StockRow) -> Self {
        Self { product: ProductId(row.product_id), on_hand: row.on_hand, reserved: row.reserved, version: row.version }
    }
}

/// A reservation joined with one of its lines, or with none.
#[derive(sqlx::FromRow)]
struct ReservationRow {
    reservation_id: Uuid,
    state: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    product_id: Option<Uuid>,
    quantity: Option<i64>,
    short_of: Option<i64>,
}

/// The stock of one product as others see it now.
pub(super) async fn stock(tx: &mut Tx, product: ProductId) -> Result<Option<Stock>> {
    let sql = "SELECT product_id, on_hand, reserved, version FROM stock WHERE product_id = $1";
    Ok(tx.q(sql).bind(product.0).opt::<StockRow>().await?.map(Stock::from))
}

/// A page of stock in the order of products' ids.
pub(super) async fn stock_after(tx: &mut Tx, after: Uuid, limit: i64) -> Result<Vec<Stock>> {
    let sql = "SELECT product_id, on_hand, reserved, version FROM stock WHERE product_id > $1 ORDER BY product_id LIMIT $2";
    Ok(tx.q(sql).bind(after).bind(limit).all::<StockRow>().await?.into_iter().map(Stock::from).collect())
}

/// The stock of one product, which nobody else changes until the transaction ends.
pub(super) async fn lock_stock(tx: &mut Tx, product: ProductId) -> Result<Option<Stock>> {
    let sql = (
        "SELECT product_id, on_hand, reserved, version FROM stock WHERE product_id = $1 FOR UPDATE",
        "SELECT product_id, on_hand, reserved, version FROM stock WHERE product_id = $1",
    );
    Ok(tx.q(sql).bind(product.0).opt::<StockRow>().await?.map(Stock::from))
}

/// The stock of these lines' products, locked in their order: two transactions can never wait for each other.
pub(super) async fn lock_all(tx: &mut Tx, lines: &Lines) -> Result<Vec<Stock>> {
    let mut levels = Vec::new();
    for line in lines.iter() {
        levels.extend(lock_stock(tx, line.product).await?);
    }
    Ok(levels)
}

/// Makes sure that there is a row to lock, also when two transactions find none at once.
pub(super) async fn ensure_stock(tx: &mut Tx, product: ProductId) -> Result<()> {
    let sql = "INSERT INTO stock (product_id, on_hand, reserved, version) VALUES ($1, 0, 0, 0) ON CONFLICT DO NOTHING";
    tx.q(sql).bind(product.0).run().await.map(drop)
}

/// Writes what was locked before.
pub(super) async fn put_stock(tx: &mut Tx, stock: &Stock) -> Result<()> {
    let sql = "UPDATE stock SET on_hand = $2, reserved = $3, version = $4 WHERE product_id = $1";
    tx.q(sql).bind(stock.product.0).bind(stock.on_hand).bind(stock.reserved).bind(stock.version).run().await.map(drop)
}

/// Stock as the idempotency table keeps it for the repeat of an adjustment.
pub(super) fn encode(stock: &Stock) -> Vec<u8> {
    let numbers = [stock.on_hand, stock.reserved, stock.version].map(i64::to_be_bytes);
    [stock.product.0.as_bytes().as_slice(), numbers.as_flattened()].concat()
}

/// What [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<Stock, Error> {
    let decoded = || {
        let (product, rest) = bytes.split_first_chunk::<16>()?;
        let mut numbers = rest.chunks_exact(8).map(|chunk| chunk.try_into().map(i64::from_be_bytes));
        let mut next = || numbers.next()?.ok();
        Some(Stock { product: ProductId(Uuid::from_bytes(*product)), on_hand: next()?, reserved: next()?, version: next()? })
    };
    decoded().ok_or_else(|| Error::Internal("an answer kept for repeats cannot be read".into()))
}

/// Takes the id: true when nobody had it. Whoever else wants it waits until this transaction ends.
pub(super) async fn claim(tx: &mut Tx, id: ReservationId, state: &ReservationState, now: DateTime<Utc>) -> Result<bool> {
    let sql =
        "INSERT INTO reservations (reservation_id, state, created_at, updated_at) VALUES ($1, $2, $3, $3) ON CONFLICT DO NOTHING";
    Ok(tx.q(sql).bind(id.0).bind(state_name(state.name())).bind(now).run().await? == 1)
}

/// One reservation, which nobody else changes until the transaction ends.
pub(super) async fn lock_reservation(tx: &mut Tx, id: ReservationId) -> Result<Option<Reservation>> {
    let sql = (
        "SELECT reservation_id FROM reservations WHERE reservation_id = $1 FOR UPDATE",
        "SELECT reservation_id FROM reservations WHERE reservation_id = $1",
    );
    let _: Option<(Uuid,)> = tx.q(sql).bind(id.0).opt().await?;
    reservation(tx, id).await
}

/// One reservation as others see it now.
pub(super) async fn reservation(tx: &mut Tx, id: ReservationId) -> Result<Option<Reservation>> {
    let sql = "SELECT r.reservation_id, r.state, r.created_at, r.updated_at, l.product_id, l.quantity, l.short_of
                 FROM reservations r LEFT JOIN reservation_lines l ON l.reservation_id = r.reservation_id
                WHERE r.reservation_id = $1 ORDER BY l.product_id";
    Ok(grouped(tx.q(sql).bind(id.0).all().await?).pop())
}

/// A page of reservations in the order of their ids.
pub(super) async fn reservations(tx: &mut Tx, page: Page) -> Result<Vec<Reservation>> {
    let sql = "SELECT r.reservation_id, r.state, r.created_at, r.updated_at, l.product_id, l.quantity, l.short_of
                 FROM (SELECT reservation_id, state, created_at, updated_at FROM reservations
                        WHERE reservation_id > $1 AND ($2 = '' OR state = $2) ORDER BY reservation_id LIMIT $3) r
                 LEFT JOIN reservation_lines l ON l.reservation_id = r.reservation_id
                ORDER BY r.reservation_id, l.product_id";
    let after = page.after.map_or(Uuid::nil(), |id| id.0);
    Ok(grouped(tx.q(sql).bind(after).bind(page.state.map_or("", state_name)).bind(page.limit).all().await?))
}

/// Writes the lines of a new reservation.
pub(super) async fn put_lines(tx: &mut Tx, id: ReservationId, lines: &Lines, state: &ReservationState) -> Result<()> {
    let short: &[Shortage] = if let ReservationState::Refused(short) = state { short } else { &[] };
    for line in lines.iter() {
        let short_of = short.iter().find(|short| short.product == line.product).map(|short| short.available);
        let sql = "INSERT INTO reservation_lines (reservation_id, product_id, quantity, short_of) VALUES ($1, $2, $3, $4)";
        tx.q(sql).bind(id.0).bind(line.product.0).bind(line.quantity).bind(short_of).run().await?;
    }
    Ok(())
}

/// Changes the state of what was claimed or locked before.
pub(super) async fn put_state(tx: &mut Tx, id: ReservationId, state: &ReservationState, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE reservations SET state = $2, updated_at = $3 WHERE reservation_id = $1";
    tx.q(sql).bind(id.0).bind(state_name(state.name())).bind(now).run().await.map(drop)
}

fn state_name(state: StateName) -> &'static str {
    match state {
        StateName::Reserved => "reserved",
        StateName::Refused => "refused",
        StateName::Released => "released",
    }
}

/// Joined rows, sorted by reservation, as reservations.
fn grouped(rows: Vec<ReservationRow>) -> Vec<Reservation> {
    let mut found: Vec<(ReservationRow, Vec<Line>, Vec<Shortage>)> = Vec::new();
    for row in rows {
        let line = row.product_id.zip(row.quantity).map(|(product, quantity)| Line { product: ProductId(product), quantity });
        let short =
            line.zip(row.short_of).map(|(line, available)| Shortage { product: line.product, requested: line.quantity, available });
        match found.last_mut().filter(|(last, ..)| last.reservation_id == row.reservation_id) {
            Some((_, lines, shortages)) => {
                lines.extend(line);
                shortages.extend(short);
            }
            None => found.push((row, line.into_iter().collect(), short.into_iter().collect())),
        }
    }
    let whole = |(row, lines, short): (ReservationRow, _, _)| Reservation {
        id: ReservationId(row.reservation_id),
        lines: Lines::stored(lines),
        state: match row.state.as_str() {
            "reserved" => ReservationState::Reserved,
            "refused" => ReservationState::Refused(short),
            // The column's check allows three words.
            _ => ReservationState::Released,
        },
        created: row.created_at,
        updated: row.updated_at,
    };
    found.into_iter().map(whole).collect()
}
