//! Shoppers in a closed loop: each places an order, waits until it has ended, and places the next.

use crate::gateway::{Gateway, With};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sinew_sql::Db;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use testkit::wait_for;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often the order service's database is asked which orders are open. One read of a partial index for all shoppers,
/// where each would otherwise poll the gateway: what is measured is orders, not looking at them.
const LOOK: Duration = Duration::from_millis(10);

const LIMIT: Duration = Duration::from_secs(60);

const PASSWORD: &str = "correct horse";

/// Orders that were placed and wait for their end.
type Waiting = Arc<Mutex<BTreeMap<Uuid, oneshot::Sender<()>>>>;

/// What the shoppers did.
pub(super) struct Tally {
    /// Orders that ended.
    pub(super) ended: AtomicU64,
    /// Microseconds until an order was accepted, and until it had ended.
    times: Mutex<[Histogram<u64>; 2]>,
}

/// One customer with a token.
pub(super) struct Shopper {
    gateway: Gateway,
    token: String,
    products: Vec<String>,
}

impl Tally {
    pub(super) fn new() -> anyhow::Result<Self> {
        let empty = || Histogram::new_with_bounds(1, 600_000_000, 3);
        Ok(Self { ended: AtomicU64::new(0), times: Mutex::new([empty()?, empty()?]) })
    }

    /// p50 and p99 in milliseconds until accepted, and until ended; begins anew.
    pub(super) fn take_times(&self) -> [(f64, f64); 2] {
        let ms = |histogram: &Histogram<u64>, q| histogram.value_at_quantile(q) as f64 / 1_000.0;
        lock(&self.times).each_mut().map(|histogram| {
            let both = (ms(histogram, 0.5), ms(histogram, 0.99));
            histogram.reset();
            both
        })
    }

    fn note(&self, accepted: Duration, ended: Duration) {
        self.ended.fetch_add(1, Relaxed);
        for (histogram, took) in lock(&self.times).iter_mut().zip([accepted, ended]) {
            histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
        }
    }
}

impl Shopper {
    /// Makes so many, each with an account of its own, and waits until each may order.
    pub(super) async fn make(gateway: &Gateway, count: usize) -> anyhow::Result<Vec<Self>> {
        let products = expect(gateway, Method::GET, "/api/v1/products", With::default(), None, StatusCode::OK).await?;
        let products = products["products"].as_array().context("products")?;
        // What there are only three of would fail most orders.
        let products: Vec<String> =
            products.iter().filter(|p| p["name"] != "Kettle").filter_map(|p| p["productId"].as_str().map(str::to_owned)).collect();
        ensure!(!products.is_empty(), "there are no products");
        let mut shoppers = Vec::new();
        for n in 0..count {
            let email = format!("bench-{n}@load.example");
            let user = json!({ "email": email, "name": format!("Bench {n}"), "password": PASSWORD });
            expect(gateway, Method::POST, "/api/v1/users", With::default(), Some(&user), StatusCode::CREATED).await?;
            let session = json!({ "email": email, "password": PASSWORD });
            let session =
                expect(gateway, Method::POST, "/api/v1/sessions", With::default(), Some(&session), StatusCode::OK).await?;
            let token = session["accessToken"].as_str().context("a token")?.to_owned();
            shoppers.push(Self { gateway: gateway.clone(), token, products: products.clone() });
        }
        // The last one's account is the last that the order service hears of.
        if let Some(last) = shoppers.last() {
            wait_for("the first order", LIMIT, async || last.place(0).await.map(drop).map_err(|e| format!("{e:#}"))).await?;
        }
        Ok(shoppers)
    }

    /// Places the n-th order.
    async fn place(&self, n: usize) -> anyhow::Result<Uuid> {
        let product = self.products.get(n % self.products.len()).context("a product")?;
        let body = json!({ "lines": [{ "product_id": product, "quantity": 1 }], "payment_token": "tok_ok" });
        let key = Uuid::now_v7().to_string();
        let with = With { token: Some(&self.token), idempotency_key: Some(&key) };
        let placed = expect(&self.gateway, Method::POST, "/api/v1/orders", with, Some(&body), StatusCode::CREATED).await?;
        Ok(placed["order"]["orderId"].as_str().context("an order's id")?.parse()?)
    }

    /// Orders again and again until `stop`; then waits for the last one's end.
    async fn shop(self, first: usize, waiting: Waiting, tally: Arc<Tally>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut n = first;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let order = self.place(n).await?;
            let accepted = began.elapsed();
            let (end, ended) = oneshot::channel();
            lock(&waiting).insert(order, end);
            ended.await.context("nobody looks for ends")?;
            tally.note(accepted, began.elapsed());
            n += 1;
        }
        Ok(())
    }
}

/// Shoppers at work.
pub(super) struct Load {
    stop: CancellationToken,
    shoppers: JoinSet<anyhow::Result<()>>,
    watch: JoinSet<anyhow::Result<()>>,
}

impl Load {
    /// `orders` is the order service's database.
    pub(super) fn start(shoppers: Vec<Shopper>, orders: Db, tally: &Arc<Tally>) -> Self {
        let (stop, waiting, mut tasks, mut watch) = (CancellationToken::new(), Waiting::default(), JoinSet::new(), JoinSet::new());
        for (n, shopper) in shoppers.into_iter().enumerate() {
            tasks.spawn(shopper.shop(n, waiting.clone(), tally.clone(), stop.clone()));
        }
        watch.spawn(async move { look(&orders, &waiting).await });
        Self { stop, shoppers: tasks, watch }
    }

    /// Returns when every shopper's last order has ended.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        loop {
            tokio::select! {
                biased;
                Some(failed) = self.watch.join_next() => failed??,
                done = self.shoppers.join_next() => match done {
                    Some(done) => done??,
                    None => return Ok(()),
                },
            }
        }
    }
}

/// Tells shoppers of their orders' ends, for ever.
async fn look(orders: &Db, waiting: &Waiting) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Those that were accepted before the look: they are open in it, or have ended.
        let accepted: Vec<Uuid> = lock(waiting).keys().copied().collect();
        if accepted.is_empty() {
            continue;
        }
        let sql = "SELECT saga_id FROM sagas WHERE kind = 'order' AND phase IN ('started', 'processing', 'compensating')";
        let open: Vec<(Uuid,)> = orders.snapshot().await?.q(sql).all().await?;
        let open: BTreeSet<Uuid> = open.into_iter().map(|(id,)| id).collect();
        let mut waiting = lock(waiting);
        for ended in accepted.iter().filter(|id| !open.contains(id)) {
            if let Some(end) = waiting.remove(ended) {
                let _ = end.send(());
            }
        }
    }
}

async fn expect(
    gateway: &Gateway,
    method: Method,
    path: &str,
    with: With<'_>,
    body: Option<&Value>,
    status: StatusCode,
) -> anyhow::Result<Value> {
    let body = body.map(ToString::to_string).unwrap_or_default();
    let (answered, bytes) = gateway.ask(method, path, with, body).await?;
    ensure!(answered == status, "{path}: {answered}: {}", String::from_utf8_lossy(&bytes));
    Ok(serde_json::from_slice(&bytes)?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
