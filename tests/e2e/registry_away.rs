//! Services may be started before their registry: they serve at once, and find each other when it comes.

use crate::{
    on_both_registries,
    rest::Rest,
    world::{Kind, Registry, SOON},
};
use anyhow::ensure;
use contracts::product::v1::{ListProductsRequest, product_service_client::ProductServiceClient};
use sinew::{Endpoint, FixedList, Mesh, ServiceName};
use std::{collections::BTreeMap, sync::Arc};
use testkit::{Running, SinewProcess, free_port, wait_for, wait_for_port};

on_both_registries!(a_shop_that_starts_before_its_registry_serves_and_comes_together_when_it_is_there a_service_that_never_saw_its_registry_leaves_at_once);

const SHOP: &[&str] = &["user", "product", "inventory", "payment", "order", "gateway"];

/// One process of each service, started while the registry is away.
struct Shop {
    processes: BTreeMap<&'static str, Running>,
    registry: Registry,
    sinew: SinewProcess,
    /// The product service's mesh port.
    product: u16,
    gateway: u16,
}

impl Shop {
    async fn start(kind: Kind, services: &[&'static str]) -> anyhow::Result<Self> {
        let sinew = SinewProcess::new(env!("CARGO_BIN_EXE_sinew"))?;
        let mut registry = Registry::start(kind, &sinew).await?;
        registry.kill()?;
        let (product, gateway) = (free_port()?, free_port()?);
        let mut processes = BTreeMap::new();
        for service in services {
            let listen = if *service == "product" { product } else { 0 };
            let program = sinew
                .program(service, &["run", service])
                .env("CONSUL_HTTP_ADDR", registry.address())
                .env("SINEW_LISTEN", format!("127.0.0.1:{listen}"))
                .env("SINEW_GATEWAY_LISTEN", format!("127.0.0.1:{gateway}"));
            processes.insert(*service, program.start()?);
        }
        let mut shop = Self { processes, registry, sinew, product, gateway };
        for process in shop.processes.values_mut() {
            process.wait_for_log("the registry cannot be reached: serving", SOON).await?;
        }
        Ok(shop)
    }

    /// Asks the product service itself, without a registry.
    async fn products(&self) -> anyhow::Result<()> {
        let list = FixedList::new();
        list.set(&ServiceName::new("product")?, vec![Endpoint::new("product-0", "127.0.0.1", self.product)]);
        let mesh = Mesh::builder("e2e").policies(contracts::POLICIES).discover(Arc::new(list)).start().await?;
        ProductServiceClient::new(mesh.channel("product")).list_products(ListProductsRequest::default()).await?;
        Ok(())
    }
}

async fn a_shop_that_starts_before_its_registry_serves_and_comes_together_when_it_is_there(kind: Kind) -> anyhow::Result<()> {
    let mut shop = Shop::start(kind, SHOP).await?;
    shop.products().await?;
    wait_for_port("the gateway", shop.gateway, SOON).await?;
    let rest = Rest::new(&format!("127.0.0.1:{}", shop.gateway));
    ensure!(rest.get("/readyz", None).await?.status == 200, "the gateway answers by itself");

    shop.registry.restart().await?;
    let consul = shop.registry.address();
    wait_for("six passing services", 2 * SOON, async || {
        let services = shop.sinew.json(&["services", "--consul", &consul]).await.map_err(|e| e.to_string())?;
        let passing = services.as_array().into_iter().flatten().filter(|i| i["health"] == "passing").count();
        if passing == SHOP.len() { Ok(()) } else { Err(services.to_string()) }
    })
    .await?;
    wait_for("products through the gateway", SOON, async || match rest.get("/api/v1/products", None).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await?;
    for (service, process) in &mut shop.processes {
        process.still_running()?;
        let log = process.log();
        for line in ["the registry cannot be reached: serving", " registered "] {
            let count = log.lines().filter(|l| l.contains(line)).count();
            ensure!(count == 1, "{service} said {line:?} {count} times:\n{log}");
        }
    }
    Ok(())
}

async fn a_service_that_never_saw_its_registry_leaves_at_once(kind: Kind) -> anyhow::Result<()> {
    let mut shop = Shop::start(kind, &["product"]).await?;
    let Some(product) = shop.processes.get_mut("product") else { anyhow::bail!("there is no product") };
    product.terminate()?;
    let status = product.wait(SOON).await?;
    ensure!(status.success(), "ended with {status}:\n{}", product.log());
    shop.registry.restart().await?;
    let services = shop.sinew.json(&["services", "--consul", &shop.registry.address()]).await?;
    ensure!(services.as_array().is_some_and(Vec::is_empty), "left behind: {services}");
    Ok(())
}
