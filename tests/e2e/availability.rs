//! Processes that die or are replaced under load cost nobody a call.

use crate::{
    load::Load,
    on_both_registries,
    world::{Kind, PLENTY, SERVICES, SOON, World},
};
use contracts::{inventory::v1::GetStockRequest, order::v1::ListOrdersRequest, payment::v1::ListPaymentsRequest};

on_both_registries!(
    a_replica_killed_again_and_again_costs_no_call
    a_rolling_restart_costs_no_call
    the_other_replica_takes_a_dead_ones_sagas_over_in_time
);

/// Calls a second, over all methods.
const RATE: u32 = 500;

impl World {
    /// Calls that read from inventory, or from all three services in turn.
    pub(crate) fn load(&self, everywhere: bool) -> anyhow::Result<Load> {
        let (inventory, payments, orders) = (self.inventory(), self.payments(), self.orders());
        let list = self.request(ListOrdersRequest { page_size: 1, ..ListOrdersRequest::default() })?;
        let (metadata, _, list) = list.into_parts();
        Ok(Load::start(RATE, move |number| {
            let (mut inventory, mut payments, mut orders) = (inventory.clone(), payments.clone(), orders.clone());
            let list = tonic::Request::from_parts(metadata.clone(), tonic::Extensions::new(), list.clone());
            async move {
                match number % 3 {
                    1 if everywhere => {
                        payments.list_payments(ListPaymentsRequest { page_size: 1, ..Default::default() }).await.map(drop)
                    }
                    2 if everywhere => orders.list_orders(list).await.map(drop),
                    _ => inventory.get_stock(GetStockRequest { product_id: PLENTY.to_owned() }).await.map(drop),
                }
            }
        }))
    }
}

async fn a_replica_killed_again_and_again_costs_no_call(kind: Kind) -> anyhow::Result<()> {
    let mut world = World::start(kind).await?;
    let load = world.load(false)?;
    load.answered_more(u64::from(RATE), SOON).await?;
    for _ in 0..10 {
        world.replica("inventory-0")?.kill()?;
        load.answered_more(u64::from(RATE) / 4, SOON).await?;
        world.run("inventory", 0, None)?;
        world.passing("inventory", 2, SOON).await?;
        load.answered_more(u64::from(RATE) / 4, SOON).await?;
    }
    load.none_failed().await.map(drop)
}

async fn a_rolling_restart_costs_no_call(kind: Kind) -> anyhow::Result<()> {
    let mut world = World::start(kind).await?;
    let load = world.load(true)?;
    load.answered_more(u64::from(RATE), SOON).await?;
    for service in SERVICES {
        for replica in 0..2 {
            let instance = format!("{service}-{replica}");
            world.replica(&instance)?.terminate()?;
            let status = world.replica(&instance)?.wait(SOON).await?;
            anyhow::ensure!(status.success(), "{instance} drained with {status}");
            world.run(service, replica, None)?;
            world.passing(service, 2, SOON).await?;
            load.answered_more(u64::from(RATE) / 4, SOON).await?;
        }
    }
    load.none_failed().await.map(drop)
}

async fn the_other_replica_takes_a_dead_ones_sagas_over_in_time(kind: Kind) -> anyhow::Result<()> {
    // The promise is 3 s from death to takeover; what is left of the saga takes milliseconds, and reading it a few more.
    const TAKE_OVER: std::time::Duration = std::time::Duration::from_millis(3_500);
    let mut world = World::start(kind).await?;
    // Whichever replica takes the order dies when the first step is recorded: the other never comes by there again.
    for replica in 0..2 {
        world.run("order", replica, Some("order.saga.reserve.after_commit=kill"))?;
    }
    world.all_passing(SOON).await?;
    let order = world.place(PLENTY, 1, "tok_ok").await?;
    testkit::wait_for("one of the two to die", SOON, async || {
        for instance in ["order-0", "order-1"] {
            if world.replica(instance).map_err(|e| e.to_string())?.ended().is_some() {
                return Ok(());
            }
        }
        Err("both live".to_owned())
    })
    .await?;
    world.ended(&order.order_id, TAKE_OVER).await?;
    world.books_agree().await
}
