//! A process killed at any of the places where it hurts: every order still ends, and everything happened exactly once.

use crate::{
    on_both_registries,
    world::{Kind, PLENTY, SCARCE, SOON, World},
};
use anyhow::ensure;
use contracts::order::v1::{CancelOrderRequest, OrderState};
use std::time::Duration;
use testkit::wait_for;

on_both_registries!(a_kill_at_any_place_in_any_participant_leaves_one_story);

/// From the moment the dead process is back.
const TERMINAL: Duration = Duration::from_secs(10);

/// Orders whose bank is silent may take until the saga's patience with it ends.
const SILENT_BANK: Duration = Duration::from_secs(40);

async fn a_kill_at_any_place_in_any_participant_leaves_one_story(kind: Kind) -> anyhow::Result<()> {
    let mut world = World::start(kind).await?;
    let order = shop_order::failpoints();
    // Confirming is its own commit: its outcome is never unknown, and after it nothing is undone.
    let reachable = order.iter().filter(|place| !place.starts_with("order.saga.confirm.undo."));
    let mut places: Vec<(&str, &str)> = reachable.map(|place| ("order", place.as_str())).collect();
    places.extend(shop_inventory::FAILPOINTS.iter().map(|place| ("inventory", *place)));
    places.extend(shop_payment::FAILPOINTS.iter().map(|place| ("payment", *place)));
    ensure!(places.len() >= 20, "only {} places to die: is a list empty?", places.len());

    for (service, place) in places {
        eprintln!("{place}");
        let (armed, other) = (format!("{service}-0"), format!("{service}-1"));
        // The one that is armed is alone, so that its place is reached; the other comes back when it has died.
        world.leave(&other).await?;
        world.run(service, 0, Some(place))?;
        world.passing(service, 1, SOON).await?;
        let silent = world.until_it_dies(&armed, place).await?;
        world.run(service, 1, None)?;
        world.run(service, 0, None)?;
        world.all_passing(SOON).await?;
        world.all_ended(&silent, TERMINAL).await?;
        world.all_ended(&[], SILENT_BANK).await?;
        world.books_agree().await?;
    }
    Ok(())
}

impl World {
    /// Places orders of every kind until the armed process has died; gives those whose bank is silent. Answers may be
    /// missing: the one who would give them may be the one who dies.
    async fn until_it_dies(&mut self, armed: &str, place: &str) -> anyhow::Result<Vec<String>> {
        let mut silent = Vec::new();
        for round in 0.. {
            if place.starts_with("payment.refund.") {
                self.turn_back_after_a_charge().await?;
                // The lease of the dead coordinator must end first.
                if self.dies(armed, TERMINAL).await.is_ok() {
                    break;
                }
            }
            let wishes = [(PLENTY, 1, "tok_ok"), (PLENTY, 1, "tok_declined"), (SCARCE, 4, "tok_ok"), (PLENTY, 1, "tok_timeout")];
            for (product, quantity, card) in wishes {
                let Ok(order) = self.place(product, quantity, card).await else { continue };
                if card == "tok_timeout" {
                    let cancel = CancelOrderRequest { idempotency_key: order.order_id.clone(), order_id: order.order_id.clone() };
                    self.orders().cancel_order(self.request(cancel)?).await.ok();
                    silent.push(order.order_id);
                }
            }
            if round > 0 {
                silent.extend(self.cancel_while_payment_is_frozen().await.unwrap_or_default());
            }
            // Sagas take milliseconds; the second round leaves time for an attempt to run out.
            let limit = Duration::from_secs(if round > 0 { 6 } else { 2 });
            match self.dies(armed, limit).await {
                Ok(()) => break,
                Err(error) => ensure!(round < 3, "{place} is never reached: {error}"),
            }
        }
        Ok(silent)
    }

    /// Waits until a replica has died.
    async fn dies(&mut self, replica: &str, limit: Duration) -> anyhow::Result<()> {
        wait_for(&format!("the death of {replica}"), limit, async || {
            let ended = self.replica(replica).map_err(|e| e.to_string())?.ended();
            ended.map(drop).ok_or_else(|| "it lives".to_owned())
        })
        .await
    }

    /// An order that turns back while nobody knows whether it was charged: the way to a refund.
    async fn cancel_while_payment_is_frozen(&mut self) -> anyhow::Result<Vec<String>> {
        let alive: Vec<_> =
            ["payment-0", "payment-1"].into_iter().filter(|p| self.replica(p).is_ok_and(|r| r.ended().is_none())).collect();
        for payment in &alive {
            self.replica(payment)?.freeze()?;
        }
        let turned = self.turn_back().await;
        for payment in &alive {
            self.replica(payment)?.thaw()?;
        }
        turned
    }

    async fn turn_back(&self) -> anyhow::Result<Vec<String>> {
        let order_id = self.place(PLENTY, 1, "tok_ok").await?.order_id;
        self.reaches(&order_id, OrderState::Processing).await?;
        let cancel = CancelOrderRequest { idempotency_key: order_id.clone(), order_id: order_id.clone() };
        self.orders().cancel_order(self.request(cancel)?).await?;
        self.reaches(&order_id, OrderState::Compensating).await?;
        Ok(vec![order_id])
    }

    /// An order that turns back with its money taken: its coordinator dies when it has charged and not yet written that
    /// down, and before another takes over it is cancelled.
    async fn turn_back_after_a_charge(&mut self) -> anyhow::Result<()> {
        for replica in ["order-0", "order-1"] {
            self.leave(replica).await?;
        }
        self.run("order", 0, Some("order.saga.charge.after_call"))?;
        self.passing("order", 1, SOON).await?;
        let order_id = self.place(PLENTY, 1, "tok_ok").await?.order_id;
        self.dies("order-0", SOON).await?;
        for replica in 0..2 {
            self.run("order", replica, None)?;
        }
        let cancel = CancelOrderRequest { idempotency_key: order_id.clone(), order_id: order_id.clone() };
        wait_for("the cancellation", SOON, async || {
            let request = self.request(cancel.clone()).map_err(|e| e.to_string())?;
            match self.orders().cancel_order(request).await {
                Ok(_) => Ok(()),
                // Too late: somebody took over and completed it. The next round tries again.
                Err(status) if status.code() == tonic::Code::FailedPrecondition => Ok(()),
                Err(status) => Err(status.to_string()),
            }
        })
        .await
    }

    async fn reaches(&self, order_id: &str, state: OrderState) -> anyhow::Result<()> {
        wait_for(&format!("{state:?}"), TERMINAL, async || {
            let order = self.order(order_id).await.map_err(|e| e.to_string())?;
            if order.state() == state { Ok(()) } else { Err(format!("{order:?}")) }
        })
        .await
    }
}
