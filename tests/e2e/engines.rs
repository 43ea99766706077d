//! The stores and the broker that a shop in production runs on, and what becomes of it when they fail.

use crate::{shop::Shop, world::SOON};
use anyhow::{Context, ensure};
use http::StatusCode;
use serde_json::Value;
use std::time::Duration;
use testkit::{Durability, Postgres, RabbitMq, Redis, Running};

/// The database of the payment provider that comes with the shop.
const BANK: &str = "bank";

/// PostgreSQL as in production, with a database per service; Redis; RabbitMQ.
#[derive(Debug)]
pub(crate) struct Engines {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) rabbitmq: RabbitMq,
}

impl Engines {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_on(Redis::start()).await
    }

    /// As in production: Redis keeps what it has.
    pub(crate) async fn start_durable() -> anyhow::Result<Self> {
        Self::start_on(Redis::start_durable()).await
    }

    async fn start_on(redis: impl Future<Output = anyhow::Result<Redis>>) -> anyhow::Result<Self> {
        let (postgres, redis, rabbitmq) = tokio::join!(Postgres::start(Durability::Real), redis, RabbitMq::start());
        let postgres = postgres?;
        for service in ["user", "product", "inventory", "payment", "order", BANK] {
            postgres.database(&format!("shop_{service}"))?;
        }
        Ok(Self { postgres, redis: redis?, rabbitmq: rabbitmq? })
    }

    /// The URL of a service's database.
    pub(crate) fn database(&self, service: &str) -> String {
        self.postgres.url(&format!("shop_{service}"))
    }

    /// What `sinew up` is told: everything on them.
    pub(crate) fn of_the_shop(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DATABASE_URL", self.database("{service}")),
            ("PAYMENT_PROVIDER_URL", self.database(BANK)),
            ("PRODUCT_STORE_URL", self.redis.url()),
            ("RATE_LIMIT_URL", self.redis.url()),
            ("AMQP_URL", self.rabbitmq.url()),
        ]
    }

    /// What one service is told that is started by itself.
    pub(crate) fn of_service(&self, service: &str) -> [(&'static str, String); 3] {
        let bank = ("PAYMENT_PROVIDER_URL", self.database(BANK));
        [("DATABASE_URL", self.database(service)), bank, ("AMQP_URL", self.rabbitmq.url())]
    }

    /// Where the bank's ledger is.
    pub(crate) fn ledger(&self) -> String {
        self.database(BANK)
    }
}

/// Killed in the middle of commits, publishing and reading, each comes back; calls may fail meanwhile, and that is all.
#[tokio::test(flavor = "multi_thread")]
async fn engines_that_die_lose_nothing_and_do_nothing_twice() -> anyhow::Result<()> {
    let mut shop = Shop::open_on(Engines::start().await?).await?;
    let (admin, cup) = (shop.admin().await?, shop.rest.product("Cup").await?);
    let (user, _) = shop.rest.user("ada@shop.example").await?;
    for queue in ["order.user", "order.product"] {
        shop.engines.as_ref().context("engines")?.rabbitmq.written_down(queue).await?;
    }
    let (seconds, mut accepted, mut round) = (8, 0, 0);
    // Where commits wait for a slow disk two rounds may tell too little.
    while round < 2 || accepted < 10 {
        ensure!(round < 6, "too few to tell: {accepted} orders were accepted in {round} rounds");
        let before = shop.newest(&admin).await?;
        let mut load = shop.load(seconds)?;
        testkit::wait_for("orders under way", 2 * SOON, async || {
            let newest = shop.newest(&admin).await.map_err(|e| e.to_string())?;
            if newest == before { Err(format!("{newest:?} is the newest still")) } else { Ok(()) }
        })
        .await?;
        shop.change(&admin, &cup, &user, round).await?;
        let engines = shop.engines.as_mut().context("engines")?;
        engines.rabbitmq.process().restart()?;
        engines.postgres.crash().await?;
        engines.rabbitmq.ready().await?;
        let told = ended(&mut load, seconds).await?;
        ensure!(told["not_ended"] == 0 && told["lost"] == 0, "{told}");
        accepted += told["accepted"].as_u64().unwrap_or_default();
        shop.newest(&admin).await?;
        round += 1;
    }
    shop.lag("order to be up to date", |lag| {
        let by_order: Vec<_> = lag.iter().filter(|l| l["consumer"] == "order").collect();
        by_order.len() == 2 && by_order.iter().all(|l| l["behind"] == 0)
    })
    .await?;
    shop.books_agree().await?;
    shop.every_event_took_effect_once("user", "order.user").await?;
    Ok(())
}

/// Without Redis people log in and order; what is in it is not to be had, and nobody is told that it is empty.
#[tokio::test(flavor = "multi_thread")]
async fn without_redis_orders_and_log_ins_go_on_and_products_are_away() -> anyhow::Result<()> {
    let mut shop = Shop::open_on(Engines::start().await?).await?;
    let teapot = shop.rest.product("Teapot").await?;
    shop.rest.user("ada@shop.example").await?;
    shop.order(&teapot).await?;

    shop.engines.as_mut().context("engines")?.redis.process().freeze()?;
    shop.order(&teapot).await?;
    let stalled = shop.rest.get("/api/v1/products", None).await?;
    ensure!([503, 504].contains(&stalled.status.as_u16()), "{stalled:?}");
    shop.engines.as_mut().context("engines")?.redis.process().thaw()?;
    testkit::wait_for("the products again", SOON, async || {
        let listed = shop.rest.get("/api/v1/products", None).await.map_err(|e| e.to_string())?;
        if listed.status == StatusCode::OK { Ok(()) } else { Err(format!("{listed:?}")) }
    })
    .await?;

    // It comes back without what it knew.
    let redis = &mut shop.engines.as_mut().context("engines")?.redis;
    redis.process().restart()?;
    redis.ready().await?;
    testkit::wait_for("the loss to be told", SOON, async || {
        let listed = shop.rest.get("/api/v1/products", None).await.map_err(|e| e.to_string())?;
        if listed.status == StatusCode::OK {
            return Err(format!("an empty catalogue is served: {listed:?}"));
        }
        let told = |replica: &&str| shop.up.child_log(replica).contains("lost its data");
        if ["product-0", "product-1"].iter().any(told) { Ok(()) } else { Err(format!("{listed:?}")) }
    })
    .await?;
    shop.order(&teapot).await
}

impl Shop {
    /// Logs in and orders, to the end.
    async fn order(&self, product: &str) -> anyhow::Result<()> {
        let token = self.rest.log_in("ada@shop.example", "correct horse").await?;
        let order = self.place(&token, product, 1, "tok_ok").await?;
        self.ends(&token, &order, "ORDER_STATE_COMPLETED").await.map(drop)
    }

    /// The newest order, once orders are to be had.
    async fn newest(&self, admin: &str) -> anyhow::Result<Value> {
        testkit::wait_for("the shop to answer", 2 * SOON, async || {
            let listed = self.rest.get("/api/v1/orders", Some(admin)).await.map_err(|e| e.to_string())?;
            if listed.status == StatusCode::OK {
                Ok(listed.json["orders"][0]["orderId"].clone())
            } else {
                Err(format!("{listed:?}"))
            }
        })
        .await
    }
}

/// What the load tells in the end.
async fn ended(load: &mut Running, seconds: u32) -> anyhow::Result<Value> {
    load.wait(Duration::from_secs(u64::from(seconds)) + 4 * SOON).await?;
    let log = load.log();
    let json = log.find("\n{").map(|at| &log[at..]).with_context(|| format!("no summary: {log}"))?;
    Ok(serde_json::Deserializer::from_str(json).into_iter().next().context("a summary")??)
}
