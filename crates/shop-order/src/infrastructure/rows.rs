//! Rows as the database has them, and how they are read and written inside a transaction.

use crate::domain::{
    Currency, Customer, CustomerId, FailureReason, Money, Order, OrderId, OrderLine, OrderState, Page, Product, ProductId,
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sinew_sql::{Error, Result, Tx};
use std::collections::BTreeMap;
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct OrderRow {
    order_id: Uuid,
    customer_id: Uuid,
    customer_name: String,
    total: i64,
    currency: String,
    state: String,
    failure_reason: Option<String>,
    failure_message: Option<String>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct LineRow {
    product_id: Uuid,
    product_name: String,
    quantity: i64,
    amount: i64,
}

#[derive(sqlx::FromRow)]
struct LineOfOrder {
    order_id: Uuid,
    #[sqlx(flatten)]
    line: LineRow,
}

const STATES: [(OrderState, &str); 5] = [
    (OrderState::Started, "started"),
    (OrderState::Processing, "processing"),
    (OrderState::Completed, "completed"),
    (OrderState::Compensating, "compensating"),
    (OrderState::Failed, "failed"),
];

const REASONS: [(FailureReason, &str); 5] = [
    (FailureReason::InsufficientStock, "insufficient_stock"),
    (FailureReason::PaymentDeclined, "payment_declined"),
    (FailureReason::Cancelled, "cancelled"),
    (FailureReason::TimedOut, "timed_out"),
    (FailureReason::Refused, "refused"),
];

fn word<T: PartialEq>(words: &[(T, &'static str)], value: &T) -> &'static str {
    words.iter().find(|(known, _)| known == value).map_or("", |(_, word)| word)
}

/// The value of a stored word. One that is not ours means that somebody else wrote here.
fn value<T: Copy>(words: &[(T, &'static str)], word: &str) -> Result<T> {
    let found = words.iter().find(|(_, known)| *known == word).map(|(value, _)| *value);
    found.ok_or_else(|| strange(format!("{word:?} is no known word")))
}

fn currency(code: &str) -> Result<Currency> {
    Currency::parse(code).ok_or_else(|| strange(format!("{code:?} is no currency")))
}

fn strange(what: String) -> Error {
    Error::Database(sqlx::Error::Decode(what.into()))
}

macro_rules! order_columns {
    () => {
        "order_id, customer_id, customer_name, total, currency, state, failure_reason, failure_message, version, created_at, \
         updated_at"
    };
}

/// Writes a new order.
pub(super) async fn insert(tx: &mut Tx, order: &Order) -> Result<()> {
    let sql = "INSERT INTO orders (order_id, customer_id, customer_name, total, currency, state, version, created_at, updated_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    tx.q(sql)
        .bind(order.id.0)
        .bind(order.customer.0)
        .bind(&*order.customer_name)
        .bind(order.total.amount)
        .bind(order.total.currency.as_str())
        .bind(word(&STATES, &order.state))
        .bind(order.version)
        .bind(order.created)
        .bind(order.updated)
        .run()
        .await?;
    for (n, line) in (0i64..).zip(&order.lines) {
        let sql = "INSERT INTO order_lines (order_id, line, product_id, product_name, quantity, amount)
                   VALUES ($1, $2, $3, $4, $5, $6)";
        tx.q(sql)
            .bind(order.id.0)
            .bind(n)
            .bind(line.product.0)
            .bind(&*line.name)
            .bind(line.quantity)
            .bind(line.unit_price.amount)
            .run()
            .await?;
    }
    Ok(())
}

/// Writes what changes in an order's life.
pub(super) async fn update(tx: &mut Tx, order: &Order) -> Result<()> {
    let sql = "UPDATE orders SET state = $2, failure_reason = $3, failure_message = $4, version = $5, updated_at = $6
                WHERE order_id = $1";
    let (reason, message) = order.failure.as_ref().map(|(reason, message)| (word(&REASONS, reason), &**message)).unzip();
    tx.q(sql)
        .bind(order.id.0)
        .bind(word(&STATES, &order.state))
        .bind(reason)
        .bind(message)
        .bind(order.version)
        .bind(order.updated)
        .run()
        .await
        .map(drop)
}

/// One order as others see it now.
pub(super) async fn order(tx: &mut Tx, id: OrderId) -> Result<Option<Order>> {
    let row = tx.q(concat!("SELECT ", order_columns!(), " FROM orders WHERE order_id = $1")).bind(id.0).opt().await?;
    with_lines(tx, row).await
}

/// One order, which nobody else changes until the transaction ends.
pub(super) async fn lock(tx: &mut Tx, id: OrderId) -> Result<Option<Order>> {
    let sql = (
        concat!("SELECT ", order_columns!(), " FROM orders WHERE order_id = $1 FOR UPDATE"),
        concat!("SELECT ", order_columns!(), " FROM orders WHERE order_id = $1"),
    );
    let row = tx.q(sql).bind(id.0).opt().await?;
    with_lines(tx, row).await
}

async fn with_lines(tx: &mut Tx, row: Option<OrderRow>) -> Result<Option<Order>> {
    let Some(row) = row else { return Ok(None) };
    let lines = lines(tx, row.order_id).await?;
    whole(row, lines).map(Some)
}

async fn lines(tx: &mut Tx, order: Uuid) -> Result<Vec<LineRow>> {
    let sql = "SELECT product_id, product_name, quantity, amount FROM order_lines WHERE order_id = $1 ORDER BY line";
    tx.q(sql).bind(order).all().await
}

/// A page of orders, newest first.
pub(super) async fn orders(tx: &mut Tx, page: Page) -> Result<Vec<Order>> {
    let before = page.before.map_or(Uuid::max(), |id| id.0);
    let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
    let rows: Vec<OrderRow> = match page.customer {
        None => {
            let sql = concat!("SELECT ", order_columns!(), " FROM orders WHERE order_id < $1 ORDER BY order_id DESC LIMIT $2");
            tx.q(sql).bind(before).bind(limit).all().await?
        }
        Some(customer) => {
            let sql = concat!(
                "SELECT ",
                order_columns!(),
                " FROM orders WHERE customer_id = $3 AND order_id < $1 ORDER BY order_id DESC LIMIT $2"
            );
            tx.q(sql).bind(before).bind(limit).bind(customer.0).all().await?
        }
    };
    let mut orders = Vec::with_capacity(rows.len());
    for row in rows {
        let lines = lines(tx, row.order_id).await?;
        orders.push(whole(row, lines)?);
    }
    Ok(orders)
}

/// A page of orders, oldest first, in two statements however many there are.
pub(super) async fn orders_after(tx: &mut Tx, after: OrderId, limit: i64) -> Result<Vec<Order>> {
    let sql = concat!("SELECT ", order_columns!(), " FROM orders WHERE order_id > $1 ORDER BY order_id LIMIT $2");
    let rows: Vec<OrderRow> = tx.q(sql).bind(after.0).bind(limit).all().await?;
    let Some(last) = rows.last().map(|last| last.order_id) else { return Ok(Vec::new()) };
    let sql = "SELECT order_id, product_id, product_name, quantity, amount FROM order_lines
                WHERE order_id > $1 AND order_id <= $2 ORDER BY order_id, line";
    let mut lines: BTreeMap<Uuid, Vec<LineRow>> = BTreeMap::new();
    for line in tx.q(sql).bind(after.0).bind(last).all::<LineOfOrder>().await? {
        lines.entry(line.order_id).or_default().push(line.line);
    }
    rows.into_iter()
        .map(|row| (lines.remove(&row.order_id).unwrap_or_default(), row))
        .map(|(lines, row)| whole(row, lines))
        .collect()
}

fn whole(row: OrderRow, lines: Vec<LineRow>) -> Result<Order> {
    let currency = currency(&row.currency)?;
    let line = |line: LineRow| OrderLine {
        product: ProductId(line.product_id),
        name: line.product_name,
        quantity: line.quantity,
        unit_price: Money { amount: line.amount, currency },
    };
    let reason = row.failure_reason.map(|word| value(&REASONS, &word)).transpose()?;
    Ok(Order {
        id: OrderId(row.order_id),
        customer: CustomerId(row.customer_id),
        customer_name: row.customer_name,
        lines: lines.into_iter().map(line).collect(),
        total: Money { amount: row.total, currency },
        state: value(&STATES, &row.state)?,
        failure: reason.map(|reason| (reason, row.failure_message.unwrap_or_default())),
        version: row.version,
        created: row.created_at,
        updated: row.updated_at,
    })
}

/// The copy of one customer.
pub(super) async fn customer(tx: &mut Tx, id: CustomerId) -> Result<Option<Customer>> {
    let row: Option<(String, i64)> = tx.q("SELECT name, version FROM users WHERE user_id = $1").bind(id.0).opt().await?;
    Ok(row.map(|(name, version)| Customer { id, name, version }))
}

/// The copy of one product.
pub(super) async fn product(tx: &mut Tx, id: ProductId) -> Result<Option<Product>> {
    let sql = "SELECT name, amount, currency, version FROM products WHERE product_id = $1";
    let Some((name, amount, code, version)) = tx.q(sql).bind(id.0).opt::<(String, i64, String, i64)>().await? else {
        return Ok(None);
    };
    Ok(Some(Product { id, name, price: Money { amount, currency: currency(&code)? }, version }))
}

/// Takes in customers unless the copies are newer, by one statement. A copy as new is written again: that is how a damaged
/// one is mended.
pub(super) async fn put_customers(tx: &mut Tx, customers: impl IntoIterator<Item = Customer>) -> Result<()> {
    let sql = (
        "INSERT INTO users (user_id, name, version)
         SELECT id, name, version FROM jsonb_to_recordset($1) AS v (id uuid, name text, version bigint) WHERE true
             ON CONFLICT (user_id) DO UPDATE SET name = excluded.name, version = excluded.version
          WHERE users.version <= excluded.version",
        "INSERT INTO users (user_id, name, version)
         SELECT unhex(value ->> 'id'), value ->> 'name', value ->> 'version' FROM json_each($1) WHERE true
             ON CONFLICT (user_id) DO UPDATE SET name = excluded.name, version = excluded.version
          WHERE users.version <= excluded.version",
    );
    let newest = newest(customers, |customer| (customer.id.0, customer.version));
    let rows = newest.map(|(id, c)| json!({"id": id.simple().to_string(), "name": c.name, "version": c.version}));
    put(tx, sql, rows.collect()).await
}

/// Takes in products unless the copies are newer, as above.
pub(super) async fn put_products(tx: &mut Tx, products: impl IntoIterator<Item = Product>) -> Result<()> {
    let sql = (
        "INSERT INTO products (product_id, name, amount, currency, version)
         SELECT id, name, amount, currency, version
           FROM jsonb_to_recordset($1) AS v (id uuid, name text, amount bigint, currency text, version bigint) WHERE true
             ON CONFLICT (product_id) DO UPDATE
            SET name = excluded.name, amount = excluded.amount, currency = excluded.currency, version = excluded.version
          WHERE products.version <= excluded.version",
        "INSERT INTO products (product_id, name, amount, currency, version)
         SELECT unhex(value ->> 'id'), value ->> 'name', value ->> 'amount', value ->> 'currency', value ->> 'version'
           FROM json_each($1) WHERE true
             ON CONFLICT (product_id) DO UPDATE
            SET name = excluded.name, amount = excluded.amount, currency = excluded.currency, version = excluded.version
          WHERE products.version <= excluded.version",
    );
    let newest = newest(products, |product| (product.id.0, product.version));
    let row = |(id, p): (Uuid, Product)| {
        let Money { amount, currency } = p.price;
        let id = id.simple().to_string();
        json!({"id": id, "name": p.name, "amount": amount, "currency": currency.as_str(), "version": p.version})
    };
    put(tx, sql, newest.map(row).collect()).await
}

/// The newest of each, the later of two that are as new. PostgreSQL writes a row at most once in a statement, and in one
/// order of ids no two transactions wait for each other in a ring.
fn newest<T>(items: impl IntoIterator<Item = T>, of: fn(&T) -> (Uuid, i64)) -> impl Iterator<Item = (Uuid, T)> {
    let mut newest = BTreeMap::new();
    for item in items {
        let (id, version) = of(&item);
        if newest.get(&id).is_none_or(|known| of(known).1 <= version) {
            newest.insert(id, item);
        }
    }
    newest.into_iter()
}

/// Runs a statement that unpacks rows from JSON: what both databases can.
async fn put(tx: &mut Tx, sql: (&'static str, &'static str), rows: Vec<Value>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    tx.q(sql).bind(Value::Array(rows)).run().await.map(drop)
}
