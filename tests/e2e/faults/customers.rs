//! Customers who order at a steady rate and repeat what was not answered, with the same key, until it is.

use crate::{
    collect,
    rest::{Answer, Rest},
    shop::Shop,
    world::SOON,
};
use anyhow::{Context, ensure};
use checker::Books;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sinew::Mesh;
use sinew_core::SystemClock;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use testkit::wait_for;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use uuid::Uuid;

/// Who orders, in turn.
const CUSTOMERS: usize = 8;

/// A request is given up after this long, and repeated.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause before the first repeat; doubled with each.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Answers to repeats that are compared.
const REPEATED: usize = 200;

/// Payment tokens in turn: good, declined, and one whose bank takes the money and says nothing.
const CARDS: [&str; 25] = {
    let mut cards = ["tok_ok"; 25];
    (cards[7], cards[19], cards[13]) = ("tok_declined", "tok_declined", "tok_timeout");
    cards
};

/// Tokens are good for 15 minutes.
const TOKEN_AGE: Duration = Duration::from_secs(600);

/// What waits for something that was away backs off.
const CALM: Duration = Duration::from_secs(120);

/// The load. Dropped, it ends.
pub(super) struct Customers {
    shared: Arc<Shared>,
    stop: CancellationToken,
    running: AbortOnDropHandle<()>,
}

/// A client, as often as one likes.
pub(super) struct Shared {
    rest: Rest,
    key: String,
    products: Vec<String>,
    tokens: Vec<Mutex<(String, Instant)>>,
    ledger: Mutex<Ledger>,
}

/// What was asked for, and what was said.
#[derive(Debug, Default)]
struct Ledger {
    orders: BTreeMap<Uuid, Wish>,
    /// Answers other than an order, by what they were; the last of each kind in words.
    answers: BTreeMap<String, (u64, String)>,
    /// What was not even asked for: too much was under way.
    not_sent: u64,
}

/// One order.
#[derive(Debug, Clone)]
struct Wish {
    customer: usize,
    body: Value,
    /// Its id, once it was told.
    order: Option<String>,
    /// Whether it had to be asked for again, not knowing what became of it.
    unknown: bool,
    /// Why there will be none.
    refused: Option<String>,
}

/// What it all came to.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Verdict {
    asked: usize,
    not_sent: u64,
    pub(super) acknowledged: usize,
    /// Of those: the first answer was missing or told nothing.
    pub(super) unknown: usize,
    /// Refused, or never answered.
    unanswered: usize,
    lost: usize,
    doubled: usize,
    /// Not at their end in time.
    stuck: i64,
    /// Repeats that were answered with anything but the same order.
    repeats_wrong: usize,
    /// From the last fault to the end of all orders from before it.
    ended_after_s: f64,
    contradictions: usize,
    answers: BTreeMap<String, u64>,
}

impl Verdict {
    /// Fails unless everything is as it must be.
    pub(super) fn holds(&self) -> anyhow::Result<()> {
        let wrong = [self.unanswered, self.lost, self.doubled, self.repeats_wrong, self.contradictions];
        ensure!(wrong.iter().all(|n| *n == 0) && self.stuck == 0 && self.acknowledged > 0, "{self:?}");
        Ok(())
    }
}

impl Customers {
    /// Makes accounts, and begins to order so often a second while fewer than so many orders are under way: beyond that
    /// repeats would try the machine, not the shop.
    pub(super) async fn begin(shop: &Shop, rate: u32, at_once: usize) -> anyhow::Result<Self> {
        let rest = Rest::new(&shop.up.gateway);
        let key = fs::read_to_string(shop.sinew.data().join("load-key"))?.trim().to_owned();
        let mut products = Vec::new();
        for name in ["Teapot", "Cup", "Oolong, 100 g"] {
            products.push(rest.product(name).await?);
        }
        let mut shared = Shared { rest, key, products, tokens: Vec::new(), ledger: Mutex::default() };
        for n in 0..CUSTOMERS {
            let token = wait_for("a customer", 2 * SOON, async || shared.join(n).await.map_err(|e| format!("{e:#}"))).await?;
            shared.tokens.push(Mutex::new((token, Instant::now())));
        }
        let shared = Arc::new(shared);
        let stop = CancellationToken::new();
        let running = AbortOnDropHandle::new(tokio::spawn(order(shared.clone(), (rate, at_once), stop.clone())));
        let customers = Self { shared, stop, running };
        // A customer who came a moment ago may be new to order.
        customers.acknowledged_more(5).await?;
        Ok(customers)
    }

    pub(super) fn client(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Waits until so many more orders were acknowledged.
    pub(super) async fn acknowledged_more(&self, more: usize) -> anyhow::Result<()> {
        let count = || self.shared.ledger().orders.values().filter(|wish| wish.order.is_some()).count();
        let before = count();
        wait_for("orders to be acknowledged", 3 * SOON, async || {
            let now = count() - before;
            if now >= more { Ok(()) } else { Err(format!("{now} of {more}; {:?}", self.shared.ledger().answers)) }
        })
        .await
    }

    /// Ends the load, and judges when everything is back: all that was from before the `last` fault must end within
    /// `limit` of it.
    pub(super) async fn judge(self, shop: &Shop, last: Instant, limit: Duration) -> anyhow::Result<Verdict> {
        let cut = sinew_sql::now(&SystemClock) - last.elapsed();
        self.stop.cancel();
        let db = shop.db("order").await?;
        let open = async |only_old: bool| -> anyhow::Result<i64> {
            let sql = match only_old {
                true => "SELECT count(*) FROM orders WHERE state NOT IN ('completed', 'failed') AND created_at < $1",
                false => "SELECT count(*) FROM orders WHERE state NOT IN ('completed', 'failed') AND created_at >= $1",
            };
            let (count,): (i64,) = db.snapshot().await?.q(sql).bind(cut).one().await?;
            Ok(count)
        };
        let none_open = async |only_old: bool, limit: Duration| {
            wait_for("the end of all orders", limit, async || match open(only_old).await {
                Ok(0) => Ok(()),
                Ok(left) => Err(left.to_string()),
                Err(error) => Err(format!("{error:#}")),
            })
            .await
        };
        none_open(true, limit.saturating_sub(last.elapsed())).await.ok();
        let (mut stuck, ended_after) = (open(true).await?, last.elapsed());
        // What was not answered until now is asked for still.
        timeout(CALM, self.running).await.ok();
        none_open(false, CALM).await.ok();
        stuck += open(false).await?;
        db.close().await;
        eprintln!("after {:.1} s {stuck} orders have not ended", ended_after.as_secs_f64());
        let orders = self.shared.ledger().orders.clone();
        let books = wait_for("the books", SOON, async || books(shop).await.map_err(|e| format!("{e:#}"))).await?;
        let there: BTreeSet<&str> = books.orders.iter().map(|order| order.order_id.as_str()).collect();
        let told: Vec<&str> = orders.values().filter_map(|wish| wish.order.as_deref()).collect();
        let distinct: BTreeSet<&str> = told.iter().copied().collect();
        let unanswered = orders.values().filter(|wish| wish.order.is_none()).count();
        let contradictions = books.contradictions();
        for contradiction in contradictions.iter().take(20) {
            eprintln!("{contradiction}");
        }
        let repeats_wrong = self.shared.repeats_wrong(&orders).await;
        let ledger = self.shared.ledger();
        for (kind, (count, words)) in &ledger.answers {
            eprintln!("{count} × {kind}: {words}");
        }
        for wish in orders.values().filter(|wish| wish.order.is_none()).take(5) {
            eprintln!("without an order: {wish:?}");
        }
        Ok(Verdict {
            asked: orders.len(),
            not_sent: ledger.not_sent,
            acknowledged: told.len(),
            unknown: orders.values().filter(|wish| wish.unknown && wish.order.is_some()).count(),
            unanswered,
            lost: distinct.difference(&there).count(),
            // Two keys that were told one order, and orders that nobody was told of.
            doubled: told.len() - distinct.len() + there.difference(&distinct).count().saturating_sub(unanswered),
            stuck,
            repeats_wrong,
            ended_after_s: (ended_after.as_secs_f64() * 10.0).round() / 10.0,
            contradictions: contradictions.len(),
            answers: ledger.answers.iter().map(|(kind, (count, _))| (kind.clone(), *count)).collect(),
        })
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request of a customer, or of nobody.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: &Value,
    ) -> anyhow::Result<Answer> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("x-sinew-load-key", self.key.as_str())];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        headers.extend((!body.is_empty()).then_some(("content-type", "application/json")));
        timeout(PATIENCE, self.rest.exchange(method, path, &headers, body)).await.context("no answer in time")?
    }

    /// Makes an account, unless an attempt that was not answered did, and logs in.
    async fn join(&self, customer: usize) -> anyhow::Result<String> {
        let body = json!({ "email": email(customer), "name": "Ada", "password": "correct horse" });
        let made = self.ask(Method::POST, "/api/v1/users", None, None, &body).await?;
        ensure!([StatusCode::CREATED, StatusCode::CONFLICT].contains(&made.status), "{made:?}");
        self.log_in(customer).await
    }

    /// Logs a customer in.
    pub(super) async fn log_in(&self, customer: usize) -> anyhow::Result<String> {
        let body = json!({ "email": email(customer), "password": "correct horse" });
        let answer = self.ask(Method::POST, "/api/v1/sessions", None, None, &body).await?;
        ensure!(answer.status == StatusCode::OK, "{answer:?}");
        Ok(answer.json["accessToken"].as_str().context("a token")?.to_owned())
    }

    async fn token(&self, customer: usize) -> String {
        let Some(slot) = self.tokens.get(customer) else { return String::new() };
        let at_hand = || slot.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, since) = at_hand().clone();
        if since.elapsed() < TOKEN_AGE {
            return token;
        }
        // One who asks is enough.
        at_hand().1 = Instant::now();
        match self.log_in(customer).await {
            Ok(new) => {
                *at_hand() = (new.clone(), Instant::now());
                new
            }
            Err(_) => {
                at_hand().1 = since;
                token
            }
        }
    }

    /// Orders until there is an answer that says something.
    async fn place(&self, key: Uuid, wish: Wish) {
        let mut pause = PAUSE;
        loop {
            let token = self.token(wish.customer).await;
            let asked = self.ask(Method::POST, "/api/v1/orders", Some(&token), Some(&key.to_string()), &wish.body).await;
            let (kind, words, again) = match asked {
                Ok(answer) if answer.status == StatusCode::CREATED => {
                    let id = answer.json["order"]["orderId"].as_str().map(str::to_owned);
                    if let Some(wish) = self.ledger().orders.get_mut(&key) {
                        wish.order = id;
                    }
                    return;
                }
                Ok(answer) => {
                    let again = answer.status.is_server_error()
                        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED].contains(&answer.status)
                        || is_new_to_order(&answer);
                    (answer.status.as_str().to_owned(), answer.json.to_string(), again)
                }
                Err(error) => ("none".to_owned(), format!("{error:#}"), true),
            };
            self.note(key, kind, words, again);
            if !again {
                return;
            }
            // sleeps: as a client backs off
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Not an order.
    fn note(&self, key: Uuid, kind: String, words: String, again: bool) {
        let mut ledger = self.ledger();
        let seen = ledger.answers.entry(kind).or_default();
        *seen = (seen.0 + 1, words.clone());
        if let Some(wish) = ledger.orders.get_mut(&key) {
            wish.unknown = true;
            wish.refused = (!again).then_some(words);
        }
    }

    /// Asks again for what was acknowledged, first for those whose outcome was unknown.
    async fn repeats_wrong(&self, orders: &BTreeMap<Uuid, Wish>) -> usize {
        let mut told: Vec<_> = orders.iter().filter(|(_, wish)| wish.order.is_some()).collect();
        told.sort_by_key(|(_, wish)| !wish.unknown);
        let mut wrong = 0;
        for (key, wish) in told.into_iter().take(REPEATED) {
            let same = wait_for("the answer to a repeat", SOON, async || {
                let token = self.token(wish.customer).await;
                let asked = self.ask(Method::POST, "/api/v1/orders", Some(&token), Some(&key.to_string()), &wish.body).await;
                match asked {
                    Ok(answer) if answer.status.is_server_error() => Err(format!("{answer:?}")),
                    Ok(answer) => Ok(answer.json["order"]["orderId"].as_str() == wish.order.as_deref()),
                    Err(error) => Err(format!("{error:#}")),
                }
            });
            wrong += usize::from(!same.await.unwrap_or(false));
        }
        wrong
    }
}

/// Orders when it is due, until told to stop; returns when all was answered.
async fn order(shared: Arc<Shared>, (rate, at_once): (u32, usize), stop: CancellationToken) {
    let mut due = interval(Duration::from_secs(1) / rate);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut orders, mut n) = (JoinSet::new(), 0usize);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = due.tick() => {}
        }
        while orders.try_join_next().is_some() {}
        n += 1;
        if orders.len() >= at_once {
            shared.ledger().not_sent += 1;
            continue;
        }
        let product = shared.products.get(n % shared.products.len().max(1));
        let card = CARDS.get(n % CARDS.len());
        let body = json!({ "lines": [{ "product_id": product, "quantity": 1 }], "payment_token": card });
        let wish = Wish { customer: n % CUSTOMERS, body, order: None, unknown: false, refused: None };
        let (key, shared) = (Uuid::now_v7(), shared.clone());
        shared.ledger().orders.insert(key, wish.clone());
        orders.spawn(async move { shared.place(key, wish).await });
    }
    while orders.join_next().await.is_some() {}
}

/// Everything that everybody holds.
async fn books(shop: &Shop) -> anyhow::Result<Books> {
    let settings = sinew_consul::Settings { address: format!("http://{}", shop.up.consul), ..Default::default() };
    let mesh = Mesh::builder("e2e").policies(contracts::POLICIES).consul(settings).start().await?;
    let ledger = shop.engines.as_ref().context("engines")?.ledger();
    collect::books(&mesh, &shop.admin().await?, &ledger, shop.on_hand().await?).await
}

/// Customers are known to order by an event, which may be on its way.
fn is_new_to_order(answer: &Answer) -> bool {
    answer.json.to_string().contains("CUSTOMER_UNKNOWN")
}

fn email(customer: usize) -> String {
    format!("customer-{customer}@shop.example")
}
