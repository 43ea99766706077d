//! A saga that waits for an operator, and what he can do.

use crate::world::{Kind, PLENTY, SOON, World};
use anyhow::{Context, ensure};
use contracts::order::v1::OrderState;
use serde_json::Value;
use sinew_sql::{DEFAULT_CONNECTIONS, Db};
use testkit::wait_for;
use uuid::Uuid;

/// No participant of ours refuses to undo, so the saga is parked by hand, as one of a stricter bank would be.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_saga_is_seen_and_goes_on_when_told() -> anyhow::Result<()> {
    let mut world = World::start(Kind::Embedded).await?;
    let consul = world.registry.address();
    let (resumed, skipped) = (parked(&mut world).await?, parked(&mut world).await?);
    // Each command asks the registry anew, which may list the replicas that were killed for a moment more.
    wait_for("both to be listed", SOON, async || {
        let list = ["sagas", "list", "--state", "parked", "--consul", &consul];
        let listed = world.sinew.json(&list).await.map_err(|e| e.to_string())?;
        if listed.as_array().is_some_and(|l| l.len() == 2) { Ok(()) } else { Err(listed.to_string()) }
    })
    .await?;

    let nobody = world.sinew.output(&["sagas", "resume", &resumed, "--note", " ", "--consul", &consul]).await?;
    ensure!(nobody.status.code() == Some(64), "{nobody:?}");
    let wrong = world.sinew.output(&["sagas", "skip", &skipped, "reserve", "--note", "x", "--consul", &consul]).await?;
    ensure!(wrong.status.code() == Some(1), "it is parked at another step: {wrong:?}");
    for _ in 0..2 {
        world.sinew.json(&["sagas", "resume", &resumed, "--note", "the bank is mended", "--consul", &consul]).await?;
        world.sinew.json(&["sagas", "skip", &skipped, "charge", "--note", "paid back in cash", "--consul", &consul]).await?;
    }
    for (order, word, note) in [(&resumed, "resumed", "the bank is mended"), (&skipped, "skipped", "paid back in cash")] {
        world.ends(order, OrderState::Failed).await?;
        let shown = world.sinew.json(&["sagas", "show", order, "--consul", &consul]).await?;
        let told = |entry: &Value| entry["what"] == word && entry["detail"].as_str().is_some_and(|d| d.ends_with(note));
        let times = shown["history"].as_array().map_or(0, |history| history.iter().filter(|entry| told(entry)).count());
        ensure!(times == 1, "told {times} times: {shown}");
        let graph = world.sinew.text(&["sagas", "show", order, "--graph", "--consul", &consul]).await?;
        ensure!(graph.starts_with("flowchart LR") && graph.contains(word) && graph.contains("failed"), "{graph}");
    }
    let late = world.sinew.output(&["sagas", "skip", &resumed, "charge", "--note", "x", "--consul", &consul]).await?;
    ensure!(late.status.code() == Some(1), "it has ended: {late:?}");
    let paid = world.place(PLENTY, 1, "tok_ok").await?.order_id;
    world.ends(&paid, OrderState::Completed).await?;
    let shown = world.sinew.text(&["sagas", "show", &paid, "--consul", &consul]).await?;
    ensure!(shown.contains(r#"charge {"reference":"ch_"#), "the bank's reference, for whoever must pay back by hand: {shown}");
    world.books_agree().await
}

/// An order whose saga is parked at the undoing of its charge.
async fn parked(world: &mut World) -> anyhow::Result<String> {
    for payment in ["payment-0", "payment-1"] {
        world.replica(payment)?.freeze()?;
    }
    let order = world.place(PLENTY, 1, "tok_ok").await?.order_id;
    let consul = world.registry.address();
    wait_for("the charge to be under way", SOON, async || {
        let shown = world.sinew.json(&["sagas", "show", &order, "--consul", &consul]).await.map_err(|e| e.to_string())?;
        if shown["saga"]["step"] == "charge" { Ok(()) } else { Err(shown.to_string()) }
    })
    .await?;
    for replica in ["order-0", "order-1"] {
        world.replica(replica)?.kill()?;
    }
    let db = Db::open(&format!("sqlite://{}", world.sinew.data().join("order.db").display()), DEFAULT_CONNECTIONS).await?;
    let mut tx = db.begin().await?;
    let sql = "UPDATE sagas SET phase = 'compensating', parked = 1, uncertain = 1, reason_code = 'CANCELLED',
                 reason_detail = 'by hand', owner = NULL, due_at = NULL WHERE saga_id = $1";
    let parked = tx.q(sql).bind(Uuid::parse_str(&order)?).run().await?;
    tx.commit().await?;
    db.close().await;
    ensure!(parked == 1, "{parked} sagas of {order}");
    for replica in 0..2 {
        world.run("order", replica, None).context("order")?;
        world.replica(&format!("payment-{replica}"))?.thaw()?;
    }
    world.all_passing(SOON).await?;
    // The registry may list the replicas that were killed as passing, for a moment more.
    wait_for("the order service", SOON, async || world.order(&order).await.map(drop).map_err(|e| e.to_string())).await?;
    Ok(order)
}
