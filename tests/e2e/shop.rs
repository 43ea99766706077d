//! The whole shop from one command, as somebody with curl or grpcurl uses it.

use crate::{
    engines::Engines,
    on_both_registries,
    rest::{Answer, Rest},
    start::up,
    world::{Kind, Registry, SOON},
};
use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sinew_core::Access;
use testkit::{Grpcurl, Redis, SinewProcess, Up, wait_for};

on_both_registries!(
    a_customer_orders_over_rest
    nobody_calls_what_is_not_theirs_to_call
    whatever_is_wrong_is_told_and_is_no_fault_of_ours
    orders_go_on_without_the_user_and_product_services
);

/// A whole system from one command, and somebody who uses it.
pub(crate) struct Shop {
    pub(crate) sinew: SinewProcess,
    pub(crate) up: Up,
    pub(crate) rest: Rest,
    pub(crate) engines: Option<Engines>,
    pub(crate) registry: Option<Registry>,
}

impl Shop {
    pub(crate) async fn open(kind: Kind) -> anyhow::Result<Self> {
        Self::open_with(kind, &[]).await
    }

    async fn open_with(kind: Kind, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (sinew, registry, up) = up(kind, env).await?;
        let rest = Rest::new(&up.gateway);
        Ok(Self { sinew, up, rest, engines: None, registry })
    }

    /// On what production runs on: Consul, PostgreSQL, Redis, RabbitMQ.
    pub(crate) async fn open_on(engines: Engines) -> anyhow::Result<Self> {
        let env = engines.of_the_shop();
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let shop = Self::open_with(Kind::Consul, &env).await?;
        Ok(Self { engines: Some(engines), ..shop })
    }

    pub(crate) async fn admin(&self) -> anyhow::Result<String> {
        self.sinew.text(&["login", "--gateway", &format!("http://{}", self.up.gateway)]).await
    }

    pub(crate) async fn place(&self, token: &str, product: &str, quantity: i64, card: &str) -> anyhow::Result<String> {
        let body = json!({ "lines": [{ "product_id": product, "quantity": quantity }], "payment_token": card });
        let placed = self.rest.post("/api/v1/orders", Some(token), &body).await?;
        ensure!(placed.status == StatusCode::CREATED, "{placed:?}");
        let id = placed.json["order"]["orderId"].as_str().context("an id")?.to_owned();
        let location = placed.headers.get("location").and_then(|l| l.to_str().ok());
        ensure!(location == Some(&format!("/api/v1/orders/{id}")), "{placed:?}");
        Ok(id)
    }

    /// Waits until an order has ended so.
    pub(crate) async fn ends(&self, token: &str, order: &str, state: &str) -> anyhow::Result<Value> {
        wait_for(&format!("order {order} to be {state}"), SOON, async || {
            let answer = self.rest.get(&format!("/api/v1/orders/{order}"), Some(token)).await.map_err(|e| e.to_string())?;
            if answer.json["order"]["state"] == state { Ok(answer.json["order"].clone()) } else { Err(format!("{answer:?}")) }
        })
        .await
    }

    /// Ends a replica as a crash does, and waits for the one that takes its place.
    pub(crate) async fn kill(&self, service: &str, replica: u8) -> anyhow::Result<()> {
        let instance = format!("{service}-{replica}");
        let old = self.up.child(service, &instance)?;
        kill_process(pid(old)?, Signal::KILL)?;
        self.up.replaced(service, &instance, old, SOON).await.map(drop)
    }

    /// Ends a replica as a crash does. Answers false where none runs at the moment.
    pub(crate) fn end(&self, service: &str, replica: u8) -> bool {
        let running = self.up.child(service, &format!("{service}-{replica}")).and_then(pid);
        running.is_ok_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    }

    /// Stops a replica's process without ending it.
    pub(crate) fn freeze(&self, service: &str, replica: u8) -> anyhow::Result<Frozen> {
        let pid = pid(self.up.child(service, &format!("{service}-{replica}"))?)?;
        kill_process(pid, Signal::STOP)?;
        Ok(Frozen(pid))
    }

    /// Waits until `sinew events lag` tells so, and gives what it told. Right after a crash it may have nobody to ask.
    pub(crate) async fn lag(&self, what: &str, so: impl Fn(&[Value]) -> bool) -> anyhow::Result<Vec<Value>> {
        wait_for(what, SOON, async || {
            let told = self.sinew.json(&["events", "lag", "--consul", &self.up.consul]).await.map_err(|e| format!("{e:#}"))?;
            let lag = told.as_array().cloned().unwrap_or_default();
            if so(&lag) { Ok(lag) } else { Err(told.to_string()) }
        })
        .await
    }

    async fn available(&self, token: &str, product: &str) -> anyhow::Result<Value> {
        let stock = self.rest.get(&format!("/api/v1/products/{product}/stock"), Some(token)).await?;
        Ok(stock.json["stock"]["available"].clone())
    }
}

async fn a_customer_orders_over_rest(kind: Kind) -> anyhow::Result<()> {
    the_story(&Shop::open(kind).await?).await
}

/// The same on real engines: Consul, and the catalogue with its events in Redis.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_orders_what_redis_keeps() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let shop = Shop::open_with(Kind::Consul, &[("PRODUCT_STORE_URL", &redis.url())]).await?;
    ensure!(!shop.sinew.data().join("product.db").exists(), "the catalogue is not in Redis");
    the_story(&shop).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_orders_on_real_engines() -> anyhow::Result<()> {
    let shop = Shop::open_on(Engines::start().await?).await?;
    the_story(&shop).await?;
    let databases = std::fs::read_dir(shop.sinew.data())?.flatten().filter(|f| f.path().extension().is_some_and(|e| e == "db"));
    let left: Vec<_> = databases.map(|f| f.file_name()).collect();
    ensure!(left.is_empty(), "stores that are not on the engines: {left:?}");
    for publisher in ["user", "product"] {
        let put_aside = shop.sinew.json(&["events", "dlq", "list", "order", publisher]).await?;
        ensure!(put_aside == json!([]), "events through the broker: {put_aside}");
    }
    Ok(())
}

async fn the_story(shop: &Shop) -> anyhow::Result<()> {
    let rest = &shop.rest;
    let (ada, token) = rest.user("ada@shop.example").await?;
    let again = json!({ "email": "ada@shop.example", "name": "Ada", "password": "another horse" });
    is(&rest.post("/api/v1/users", None, &again).await?, 409)?;
    is(&rest.get(&format!("/api/v1/users/{ada}"), Some(&token)).await?, 200)?;
    let admin = shop.admin().await?;
    is(&rest.get("/api/v1/users/01900000-0000-7000-8000-00000000dead", Some(&admin)).await?, 404)?;
    let wrong = json!({ "email": "ada@shop.example", "password": "wrong horse" });
    is(&rest.post("/api/v1/sessions", None, &wrong).await?, 401)?;
    let (teapot, kettle) = (rest.product("Teapot").await?, rest.product("Kettle").await?);

    let good = shop.place(&token, &teapot, 2, "tok_ok").await?;
    let done = shop.ends(&token, &good, "ORDER_STATE_COMPLETED").await?;
    ensure!(done["customerName"] == "Ada" && done["total"]["amount"] == "4980", "{done}");
    let before = shop.available(&admin, &teapot).await?;
    let declined = shop.place(&token, &teapot, 1, "tok_declined").await?;
    let failed = shop.ends(&token, &declined, "ORDER_STATE_FAILED").await?;
    ensure!(failed["failureReason"] == "FAILURE_REASON_PAYMENT_DECLINED", "{failed}");
    ensure!(shop.available(&admin, &teapot).await? == before, "a declined card keeps stock");
    let many = shop.place(&token, &kettle, 4, "tok_ok").await?;
    let failed = shop.ends(&token, &many, "ORDER_STATE_FAILED").await?;
    ensure!(failed["failureReason"] == "FAILURE_REASON_INSUFFICIENT_STOCK", "{failed}");
    // Cancelled while nobody charges.
    let silent = [shop.freeze("payment", 0)?, shop.freeze("payment", 1)?];
    let regretted = shop.place(&token, &teapot, 5, "tok_ok").await?;
    is(&rest.post(&format!("/api/v1/orders/{regretted}:cancel"), Some(&token), &json!({})).await?, 200)?;
    drop(silent);
    let failed = shop.ends(&token, &regretted, "ORDER_STATE_FAILED").await?;
    ensure!(failed["failureReason"] == "FAILURE_REASON_CANCELLED", "{failed}");

    let (_, bob) = rest.user("bob@shop.example").await?;
    is(&rest.get(&format!("/api/v1/orders/{good}"), Some(&bob)).await?, 403)?;
    is(&rest.get(&format!("/api/v1/orders?user_id={ada}"), Some(&bob)).await?, 403)?;
    let all = rest.get("/api/v1/orders", Some(&admin)).await?;
    ensure!(all.json["orders"].as_array().is_some_and(|orders| orders.len() == 4), "{all:?}");
    is(&rest.get("/api/v1/orders", None).await?, 401)?;

    // The last customer came a moment ago.
    shop.lag("order to be up to date", |lag| {
        let by_order = lag.iter().filter(|l| l["consumer"] == "order");
        let behind: Vec<_> = by_order.map(|l| (l["publisher"].clone(), l["behind"].clone())).collect();
        behind == [(json!("product"), json!(0)), (json!("user"), json!(0))]
    })
    .await?;

    let grpcurl = Grpcurl::find()?;
    let listed = grpcurl.list(&shop.up.gateway).await?;
    ensure!(listed.iter().any(|s| s == "shop.order.v1.OrderService"), "{listed:?}");
    ensure!(!listed.iter().any(|s| s.starts_with("sinew.") || s.contains("payment")), "what is internal is shown: {listed:?}");
    let reply =
        grpcurl.call(&shop.up.gateway, Some(&token), "shop.order.v1.OrderService/GetOrder", &json!({ "order_id": good })).await?;
    ensure!(reply.code == "OK" && reply.body["order"]["state"] == "ORDER_STATE_COMPLETED", "{reply:?}");
    Ok(())
}

/// Every rpc of every contract, over gRPC, by nobody, a customer and an administrator.
async fn nobody_calls_what_is_not_theirs_to_call(kind: Kind) -> anyhow::Result<()> {
    let shop = Shop::open(kind).await?;
    let (_, user) = shop.rest.user("ada@shop.example").await?;
    let admin = shop.admin().await?;
    let mut tried = 0;
    for method in contracts::POLICIES.iter().flat_map(|p| p.services).flat_map(|s| s.methods) {
        for (who, token) in [("nobody", None), ("user", Some(&user)), ("admin", Some(&admin))] {
            let code = shop.rest.grpc(method.path, token.map(String::as_str)).await?;
            let (unimplemented, unauthenticated, denied) = (12, 16, 7);
            let right = match (method.access, who) {
                (Access::Internal, _) => code == unimplemented,
                (Access::User | Access::Admin, "nobody") => code == unauthenticated,
                (Access::Admin, "user") => code == denied,
                // Let in: what is wrong with an empty message is for the service to say.
                _ => ![unimplemented, unauthenticated, denied].contains(&code),
            };
            ensure!(right, "{} by {who} ends with {code}", method.path);
            tried += 1;
        }
    }
    ensure!(tried >= 60, "only {tried}");
    for path in ["/sinew.events.v1.EventsService/Subscribe", "/sinew.saga.v1.SagaService/ListSagas"] {
        ensure!(shop.rest.grpc(path, Some(&admin)).await? == 12, "{path} is there");
    }
    for path in ["/shop.payment.v1.PaymentService/Charge", "/api/v1/payments", "/api/v1/reservations"] {
        is(&shop.rest.post(path, Some(&admin), &json!({})).await?, 404)?;
    }
    Ok(())
}

async fn whatever_is_wrong_is_told_and_is_no_fault_of_ours(kind: Kind) -> anyhow::Result<()> {
    let shop = Shop::open(kind).await?;
    let rest = &shop.rest;
    let (_, token) = rest.user("ada@shop.example").await?;
    let orders = "/api/v1/orders";
    let line = json!({ "product_id": rest.product("Cup").await?, "quantity": 1 });
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    for (what, body, field) in [
        ("no JSON", "{".to_owned(), ""),
        ("an unknown field", json!({ "lines": [line], "payment_token": "t", "colour": "red" }).to_string(), "colour"),
        ("a wrong type", json!({ "lines": 7, "payment_token": "t" }).to_string(), "lines"),
        ("no id", json!({ "lines": [{ "product_id": "cup", "quantity": 1 }], "payment_token": "t" }).to_string(), "product_id"),
        ("nested deeply", deep, ""),
        ("too long", json!({ "lines": [line], "payment_token": "t".repeat(10_000) }).to_string(), "payment_token"),
        ("nothing", "{}".to_owned(), "lines"),
    ] {
        let answer = rest.send(Method::POST, orders, Some(&token), "application/json", body).await?;
        is(&answer, 400).context(what)?;
        ensure!(answer.json.to_string().contains(field), "{what}: {field} is not named: {answer:?}");
    }
    is(&rest.send(Method::POST, orders, Some(&token), "text/plain", "{}".into()).await?, 415)?;
    let large = json!({ "payment_token": "t".repeat(2 << 20) }).to_string();
    // The gateway answers before it has read all of it and closes the connection: a client that writes on may miss that.
    wait_for("413 for what is too large", SOON, async || {
        let own = Rest::new(&shop.up.gateway);
        let answer = own.send(Method::POST, orders, Some(&token), "application/json", large.clone()).await;
        let answer = answer.map_err(|e| format!("{e:#}"))?;
        is(&answer, 413).map_err(|e| e.to_string())
    })
    .await?;
    is(&rest.get("/api/v1/nothing", Some(&token)).await?, 404)?;
    is(&rest.send(Method::DELETE, orders, Some(&token), "application/json", String::new()).await?, 405)?;
    is(&rest.get(orders, Some("e30.e30.e30")).await?, 401)?;
    // As fast as one client can: more than any user's quota.
    let limited = wait_for("the limit", SOON, async || {
        let answer = rest.get(orders, Some(&token)).await.map_err(|e| e.to_string())?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS { Ok(answer) } else { Err(format!("{}", answer.status)) }
    });
    let flood = async {
        loop {
            let calls = (0..50).map(|_| rest.get(orders, Some(&token)));
            futures_util::future::join_all(calls).await;
        }
    };
    let limited = tokio::select! {
        biased;
        limited = limited => limited?,
        never = flood => never,
    };
    ensure!(limited.headers.contains_key("retry-after"), "{limited:?}");
    Ok(())
}

/// The order path asks nobody: names, prices and keys are at hand.
async fn orders_go_on_without_the_user_and_product_services(kind: Kind) -> anyhow::Result<()> {
    let shop = Shop::open(kind).await?;
    let (_, token) = shop.rest.user("ada@shop.example").await?;
    let teapot = shop.rest.product("Teapot").await?;
    shop.place(&token, &teapot, 1, "tok_ok").await?;
    let mut stopped = Vec::new();
    for service in ["user", "product"] {
        for replica in 0..2 {
            // Frozen, not ended: the supervisor would start others.
            stopped.push(shop.freeze(service, replica)?);
        }
    }
    for _ in 0..5 {
        let order = shop.place(&token, &teapot, 1, "tok_ok").await?;
        shop.ends(&token, &order, "ORDER_STATE_COMPLETED").await?;
    }
    Ok(())
}

/// A stopped process. Dropped, it goes on.
pub(crate) struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).ok();
    }
}

fn is(answer: &Answer, status: u16) -> anyhow::Result<()> {
    ensure!(answer.status.as_u16() == status, "{status} was expected: {answer:?}");
    Ok(())
}

fn pid(raw: u32) -> anyhow::Result<Pid> {
    i32::try_from(raw).ok().and_then(Pid::from_raw).context("a process id")
}
