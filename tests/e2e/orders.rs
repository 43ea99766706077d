//! An order placed with the real grpcurl completes or is undone, as its card and the shelves would have it.

use crate::{
    on_both_registries,
    world::{Kind, PLENTY, SCARCE, SOON, World},
};
use anyhow::{Context, ensure};
use contracts::order::v1::{CancelOrderRequest, FailureReason, OrderState};
use serde_json::{Value, json};
use testkit::{Grpcurl, wait_for};

on_both_registries!(grpcurl_sees_the_services_without_their_proto_files an_order_ends_as_its_card_and_the_shelves_would_have_it);

async fn grpcurl_sees_the_services_without_their_proto_files(kind: Kind) -> anyhow::Result<()> {
    let (world, grpcurl) = (World::start(kind).await?, Grpcurl::find()?);
    for (service, full) in [
        ("order", "shop.order.v1.OrderService"),
        ("inventory", "shop.inventory.v1.InventoryService"),
        ("payment", "shop.payment.v1.PaymentService"),
    ] {
        let address = world.address(service).await?;
        let listed = grpcurl.list(&address).await?;
        ensure!(listed.iter().any(|s| s == full), "{service} lists {listed:?}");
        ensure!(listed.iter().any(|s| s == "grpc.health.v1.Health"), "{service} lists {listed:?}");
        ensure!(
            !listed.iter().any(|s| s.starts_with("sinew.saga.") || s.ends_with("SubscriptionsService")),
            "{service} shows what is for operators: {listed:?}"
        );
        let described = grpcurl.describe(&address, full).await?;
        ensure!(described.contains(&format!("service {}", full.rsplit('.').next().unwrap_or_default())), "{described}");
    }
    Ok(())
}

async fn an_order_ends_as_its_card_and_the_shelves_would_have_it(kind: Kind) -> anyhow::Result<()> {
    let (mut world, shopper) = (World::start(kind).await?, Shopper { grpcurl: Grpcurl::find()? });

    let good = shopper.place(&world, PLENTY, 2, "tok_ok").await?;
    let done = world.ends(&good, OrderState::Completed).await?;
    ensure!(done.customer_name == "Ada" && done.total.as_ref().is_some_and(|m| m.amount == 2 * 2_490), "{done:?}");

    let declined = shopper.place(&world, PLENTY, 1, "tok_declined").await?;
    let failed = world.ends(&declined, OrderState::Failed).await?;
    ensure!(failed.failure_reason() == FailureReason::PaymentDeclined, "{failed:?}");

    let too_many = shopper.place(&world, SCARCE, 4, "tok_ok").await?;
    let failed = world.ends(&too_many, OrderState::Failed).await?;
    ensure!(failed.failure_reason() == FailureReason::InsufficientStock, "{failed:?}");

    // Its bank takes the money and does not say so: whichever way it ends, it is charged at most once.
    let silent = shopper.place(&world, PLENTY, 3, "tok_timeout").await?;
    world.ended(&silent, 2 * SOON).await?;

    // Cancelled while nobody charges.
    for payment in ["payment-0", "payment-1"] {
        world.replica(payment)?.freeze()?;
    }
    let regretted = shopper.place(&world, PLENTY, 5, "tok_ok").await?;
    let cancel = CancelOrderRequest { idempotency_key: "regret".into(), order_id: regretted.clone() };
    world.orders().cancel_order(world.request(cancel)?).await?;
    for payment in ["payment-0", "payment-1"] {
        world.replica(payment)?.thaw()?;
    }
    let failed = world.ends(&regretted, OrderState::Failed).await?;
    ensure!(failed.failure_reason() == FailureReason::Cancelled, "{failed:?}");

    shopper.refuses_nonsense(&world).await?;
    world.books_agree().await?;
    sagas_are_shown(&world, &good).await
}

async fn sagas_are_shown(world: &World, order: &str) -> anyhow::Result<()> {
    let consul = world.registry.address();
    let shown = world.sinew.json(&["sagas", "show", order, "--consul", &consul]).await?;
    ensure!(shown["saga"]["state"] == "completed", "{shown}");
    ensure!(shown["history"].as_array().is_some_and(|h| !h.is_empty()), "{shown}");
    let listed = world.sinew.json(&["sagas", "list", "--consul", &consul]).await?;
    ensure!(listed.as_array().is_some_and(|l| l.iter().any(|s| s["id"] == order)), "{listed}");
    let none = world.sinew.output(&["sagas", "show", "01900000-0000-7000-8000-0000000000ff", "--consul", &consul]).await?;
    ensure!(none.status.code() == Some(1), "{none:?}");
    Ok(())
}

/// Somebody with grpcurl and without our proto files.
struct Shopper {
    grpcurl: Grpcurl,
}

impl Shopper {
    async fn place(&self, world: &World, product: &str, quantity: i64, card: &str) -> anyhow::Result<String> {
        let request = json!({
            "idempotency_key": uuid::Uuid::now_v7().to_string(),
            "lines": [{ "product_id": product, "quantity": quantity }],
            "payment_token": card,
        });
        let method = "shop.order.v1.OrderService/PlaceOrder";
        // What was just seeded may be a moment away.
        let reply = wait_for("an order to be taken", SOON, async || {
            let address = world.address("order").await.map_err(|e| e.to_string())?;
            let reply = self.grpcurl.call(&address, Some(world.token()), method, &request).await.map_err(|e| e.to_string())?;
            if reply.code == "OK" { Ok(reply) } else { Err(reply.error) }
        })
        .await?;
        reply.body["order"]["orderId"].as_str().map(str::to_owned).with_context(|| format!("no order in {}", reply.body))
    }

    /// Bad requests are told what is bad in them, and strangers that they are strangers.
    async fn refuses_nonsense(&self, world: &World) -> anyhow::Result<()> {
        let method = "shop.order.v1.OrderService/PlaceOrder";
        let address = world.address("order").await?;
        let line = |quantity: i64| json!({ "product_id": PLENTY, "quantity": quantity });
        let order = |key: &str, lines: Vec<Value>| json!({ "idempotency_key": key, "lines": lines, "payment_token": "tok_ok" });
        for (nonsense, field) in [
            (order("", vec![line(1)]), "idempotency_key"),
            (order(&"k".repeat(65), vec![line(1)]), "idempotency_key"),
            (order("k", vec![]), "lines"),
            (order("k", vec![line(-1)]), "lines"),
            (order("k", vec![line(1_001)]), "lines"),
            (order("k", vec![json!({ "product_id": "teapot", "quantity": 1 })]), "lines"),
            (json!({ "idempotency_key": "k", "lines": [line(1)] }), "payment_token"),
        ] {
            let reply = self.grpcurl.call(&address, Some(world.token()), method, &nonsense).await?;
            ensure!(reply.code == "InvalidArgument" && reply.error.contains(field), "{nonsense} was answered {reply:?}");
        }
        let fine = order("k", vec![line(1)]);
        let stranger = self.grpcurl.call(&address, None, method, &fine).await?;
        ensure!(stranger.code == "Unauthenticated", "{stranger:?}");
        let forger = self.grpcurl.call(&address, Some("e30.e30.e30"), method, &fine).await?;
        ensure!(forger.code == "Unauthenticated", "{forger:?}");
        Ok(())
    }
}
