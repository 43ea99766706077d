//! What users and products tell reaches the order service once and in order, whoever dies, and orders go on meanwhile.

use crate::{
    collect,
    engines::Engines,
    on_both_registries,
    shop::Shop,
    world::{Kind, SOON},
};
use anyhow::{Context, ensure};
use http::Method;
use serde_json::{Value, json};
use sinew::Mesh;
use sinew_sql::{DEFAULT_CONNECTIONS, Db};
use std::{collections::BTreeMap, time::Duration};
use testkit::{Running, wait_for};
use uuid::Uuid;

on_both_registries!(
    kills_under_load_fail_no_call_and_lose_no_event
    a_deleted_copy_is_rebuilt_while_orders_flow
    a_consumer_that_was_away_catches_up
);

/// The load of these tests: what a debug build on a busy machine bears beside everything else.
const RPS: &str = "20";

impl Shop {
    /// Orders at a steady rate in a process of its own.
    pub(crate) fn load(&self, seconds: u32) -> anyhow::Result<Running> {
        let (gateway, duration) = (format!("http://{}", self.up.gateway), seconds.to_string());
        self.sinew.program("load", &["load", "--gateway", &gateway, "--rps", RPS, "--duration", &duration, "-o", "json"]).start()
    }

    /// Waits until the load has ended, and fails unless nothing failed and every accepted order has ended.
    async fn flawless(&self, mut load: Running, seconds: u32) -> anyhow::Result<()> {
        let status = load.wait(Duration::from_secs(u64::from(seconds)) + 3 * SOON).await?;
        ensure!(status.success(), "the load ended with {status}:\n{}", load.log());
        Ok(())
    }

    pub(crate) async fn db(&self, service: &str) -> anyhow::Result<Db> {
        let url = match &self.engines {
            Some(engines) => engines.database(service),
            None => format!("sqlite://{}", self.sinew.data().join(format!("{service}.db")).display()),
        };
        Ok(Db::open(&url, DEFAULT_CONNECTIONS).await?)
    }

    /// Waits until order's copies are as their owners have them.
    async fn copies_agree(&self) -> anyhow::Result<()> {
        let order = self.db("order").await?;
        for (publisher, table, id) in [("user", "users", "user_id"), ("product", "products", "product_id")] {
            let owner = self.db(publisher).await?;
            wait_for(&format!("the copies of {table} to be up to date"), SOON, async || {
                let owned = versions(&owner, id).await.map_err(|e| e.to_string())?;
                let copied = versions(&order, id).await.map_err(|e| e.to_string())?;
                if owned == copied { Ok(()) } else { Err(format!("{} owned, {} copied", owned.len(), copied.len())) }
            })
            .await?;
            owner.close().await;
        }
        order.close().await;
        Ok(())
    }

    /// Fails unless every event since the consumer's snapshot took effect: the inbox holds each once, by its key.
    pub(crate) async fn every_event_took_effect_once(&self, publisher: &'static str, inbox: &str) -> anyhow::Result<usize> {
        let (owner, order) = (self.db(publisher).await?, self.db("order").await?);
        let sql = "SELECT pos, event_id FROM outbox WHERE pos IS NOT NULL ORDER BY pos";
        let told: Vec<(i64, Uuid)> = owner.snapshot().await?.q(sql).all().await?;
        let sql = "SELECT event_id FROM inbox WHERE consumer = $1";
        let seen: Vec<(Uuid,)> = order.snapshot().await?.q(sql).bind(inbox).all().await?;
        let since = told.len() - seen.len();
        let missing = told[since..].iter().filter(|(_, id)| !seen.contains(&(*id,))).count();
        ensure!(missing == 0, "{missing} of {} events of {publisher} since position {since} had no effect", seen.len());
        owner.close().await;
        order.close().await;
        Ok(seen.len())
    }

    /// Collects what everybody holds and fails if it is not one story.
    pub(crate) async fn books_agree(&self) -> anyhow::Result<usize> {
        let settings = sinew_consul::Settings { address: format!("http://{}", self.up.consul), ..Default::default() };
        let mesh = Mesh::builder("e2e").policies(contracts::POLICIES).consul(settings).start().await?;
        let ledger = self.engines.as_ref().map_or_else(|| collect::embedded_ledger(&self.sinew.data()), Engines::ledger);
        let books = collect::books(&mesh, &self.admin().await?, &ledger, self.on_hand().await?).await?;
        let found = books.contradictions();
        ensure!(found.is_empty(), "the books disagree:\n  {}", found.join("\n  "));
        Ok(books.orders.len())
    }

    /// What lay on the shelves before the first order.
    pub(crate) async fn on_hand(&self) -> anyhow::Result<BTreeMap<String, i64>> {
        let mut on_hand = BTreeMap::new();
        for (product, pieces) in [("Teapot", 1_000_000), ("Cup", 1_000_000), ("Oolong, 100 g", 1_000_000), ("Kettle", 3)] {
            on_hand.insert(self.rest.product(product).await?, pieces);
        }
        Ok(on_hand)
    }

    /// Gives a product another price, and a user another name.
    pub(crate) async fn change(&self, admin: &str, product: &str, user: &str, n: usize) -> anyhow::Result<()> {
        let price = json!({ "price": { "amount": 1_000 + n, "currency": "EUR" } });
        let name = json!({ "name": format!("Ada the {n}th") });
        for (path, body) in [(format!("/api/v1/products/{product}"), price), (format!("/api/v1/users/{user}"), name)] {
            let changed = self.rest.send(Method::PATCH, &path, Some(admin), "application/json", body.to_string()).await?;
            ensure!(changed.status.is_success(), "{changed:?}");
        }
        Ok(())
    }
}

/// Versions by id; the table is the only one in each database with that key.
async fn versions(db: &Db, id: &str) -> anyhow::Result<BTreeMap<Uuid, i64>> {
    let sql = match id {
        "user_id" => "SELECT user_id, version FROM users",
        _ => "SELECT product_id, version FROM products",
    };
    Ok(db.snapshot().await?.q(sql).all::<(Uuid, i64)>().await?.into_iter().collect())
}

async fn kills_under_load_fail_no_call_and_lose_no_event(kind: Kind) -> anyhow::Result<()> {
    let shop = Shop::open(kind).await?;
    let (admin, cup) = (shop.admin().await?, shop.rest.product("Cup").await?);
    let (user, _) = shop.rest.user("ada@shop.example").await?;
    let seconds = 25;
    let load = shop.load(seconds)?;
    let mut changes = 0;
    for round in 0..2 {
        // Whoever follows the users' events.
        let of = |l: &Value| l["owner"].as_str()?.strip_prefix("order-")?.parse().ok();
        let follower = shop.lag("somebody to follow", |lag| lag.iter().any(|l| of(l).is_some())).await?.iter().find_map(of);
        for service in ["order", "inventory", "user", "product", "payment"] {
            let replica = if service == "order" { follower.unwrap_or(round) } else { round };
            shop.kill(service, replica).await?;
            for _ in 0..5 {
                shop.change(&admin, &cup, &user, changes).await?;
                changes += 1;
            }
        }
    }
    shop.flawless(load, seconds).await?;
    shop.copies_agree().await?;
    let orders = shop.books_agree().await?;
    ensure!(orders >= 300, "only {orders} orders");
    let applied = shop.every_event_took_effect_once("product", "order.product").await?;
    ensure!(applied >= changes, "{changes} changes, {applied} events of products");
    shop.every_event_took_effect_once("user", "order.user").await?;
    Ok(())
}

async fn a_deleted_copy_is_rebuilt_while_orders_flow(kind: Kind) -> anyhow::Result<()> {
    let shop = Shop::open(kind).await?;
    let seconds = 10;
    let mut load = shop.load(seconds)?;
    load.wait_for_log("placing", 2 * SOON).await.context("the load begins")?;
    let order = shop.db("order").await?;
    for (table, publisher) in [("DELETE FROM users", "user"), ("DELETE FROM products", "product")] {
        let mut tx = order.begin().await?;
        tx.q(table).run().await?;
        tx.commit().await?;
        shop.sinew.text(&["events", "rebuild", "order", publisher, "--consul", &shop.up.consul]).await?;
    }
    order.close().await;
    shop.flawless(load, seconds).await?;
    shop.copies_agree().await?;
    shop.books_agree().await.map(drop)
}

async fn a_consumer_that_was_away_catches_up(kind: Kind) -> anyhow::Result<()> {
    let shop = Shop::open(kind).await?;
    let (admin, cup) = (shop.admin().await?, shop.rest.product("Cup").await?);
    let (user, _) = shop.rest.user("ada@shop.example").await?;
    shop.copies_agree().await?;
    let away = [shop.freeze("order", 0)?, shop.freeze("order", 1)?];
    for n in 0..150 {
        shop.change(&admin, &cup, &user, n).await?;
    }
    drop(away);
    shop.copies_agree().await?;
    let applied = shop.every_event_took_effect_once("product", "order.product").await?;
    ensure!(applied >= 150, "{applied} events of products");
    shop.every_event_took_effect_once("user", "order.user").await.map(drop)
}
