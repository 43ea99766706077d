//! `sinew seed`: a few products with stock and a customer, so that there is something to order.
//!
//! Repeating it changes nothing: copies carry their version, and stock is only put where none was before.

use crate::{
    exit::{Exit, chain},
    issuer::Issuer,
    registry,
};
use contracts::inventory::v1::{AdjustStockRequest, GetStockRequest, inventory_service_client::InventoryServiceClient};
use shop_order::{Catalogue, Currency, Customer, CustomerId, Money, Product, ProductId, SqlCatalogue};
use sinew_core::{Clock, SystemClock};
use sinew_server::Role;
use sinew_sql::{DEFAULT_CONNECTIONS, Db};
use std::{path::PathBuf, time::Duration};
use tonic::{Code, Request, metadata::MetadataValue};
use uuid::Uuid;

/// The customer whom `sinew token` speaks for.
pub(crate) const CUSTOMER_ID: &str = "01900000-0000-7000-8000-000000000001";

/// The first product, for examples.
pub(crate) const PRODUCT_ID: &str = "01900000-0000-7000-8000-000000000101";

/// Id, name, price in cents, pieces.
const PRODUCTS: &[(&str, &str, i64, i64)] = &[
    (PRODUCT_ID, "Teapot", 2_490, 1_000),
    ("01900000-0000-7000-8000-000000000102", "Cup", 650, 5_000),
    ("01900000-0000-7000-8000-000000000103", "Oolong, 100 g", 1_280, 2_000),
    ("01900000-0000-7000-8000-000000000104", "Kettle", 5_900, 3),
];

/// Puts demonstration products, their stock and a customer in place.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where `sinew up` keeps its data.
    #[arg(long, env = "SINEW_DATA_DIR", default_value = crate::DEFAULT_DATA_DIR)]
    data_dir: PathBuf,

    #[command(flatten)]
    registry: registry::Where,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    let issuer = Issuer::open(&args.data_dir)?;
    let order = match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => shop_order::Config::with_url(url),
        _ => shop_order::Config::in_folder(&args.data_dir),
    };
    catalogue(&order).await?;
    stock(&args.registry.open()?, &issuer).await
}

/// Fills order's copies of users and products.
pub(crate) async fn catalogue(order: &shop_order::Config) -> Result<(), Exit> {
    let cannot = |e: &dyn std::error::Error| Exit::unavailable(format!("order's store cannot be seeded: {}", chain(e)));
    let db = Db::open(&order.database_url, DEFAULT_CONNECTIONS).await.map_err(|e| cannot(&e))?;
    db.migrate(&sinew_events::migrations()).await.map_err(|e| cannot(&e))?;
    db.migrate(&shop_order::migrations()).await.map_err(|e| cannot(&e))?;
    let catalogue = SqlCatalogue::new(db.clone());
    let customer = Customer { id: CustomerId(id(CUSTOMER_ID)?), name: "Ada".to_owned(), version: 1 };
    catalogue.put_customer(&customer).await.map_err(|e| cannot(&e))?;
    for (product, name, amount, _) in PRODUCTS {
        let price = Money { amount: *amount, currency: Currency::EUR };
        let product = Product { id: ProductId(id(product)?), name: (*name).to_owned(), price, version: 1 };
        catalogue.put_product(&product).await.map_err(|e| cannot(&e))?;
    }
    db.close().await;
    Ok(())
}

/// Puts stock on empty shelves, as an administrator would.
pub(crate) async fn stock(registry: &registry::Registry, issuer: &Issuer) -> Result<(), Exit> {
    let cannot = |status: tonic::Status| Exit::unavailable(format!("inventory cannot be seeded: {}", status.message()));
    let mut inventory = InventoryServiceClient::new(registry.channel("inventory")?);
    // A minute is plenty for a handful of calls.
    let token = issuer.token(CUSTOMER_ID, Role::Admin, SystemClock.now(), Duration::from_secs(60));
    let bearer = MetadataValue::try_from(format!("Bearer {token}")).map_err(|e| Exit::no(format!("no header: {e}")))?;
    for (product, _, _, pieces) in PRODUCTS {
        match inventory.get_stock(GetStockRequest { product_id: (*product).to_owned() }).await {
            Ok(_) => continue,
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(cannot(status)),
        }
        let mut request = Request::new(AdjustStockRequest {
            idempotency_key: format!("seed-{product}"),
            product_id: (*product).to_owned(),
            delta: *pieces,
        });
        request.metadata_mut().insert("authorization", bearer.clone());
        inventory.adjust_stock(request).await.map_err(cannot)?;
    }
    Ok(())
}

fn id(text: &str) -> Result<Uuid, Exit> {
    text.parse().map_err(|e| Exit::no(format!("{text} is no id: {e}")))
}
