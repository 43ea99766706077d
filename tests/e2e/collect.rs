//! Collects what everybody holds.

use checker::Books;
use contracts::order::v1::Order;
use sinew::Mesh;
use std::{collections::BTreeMap, path::Path};
use tonic::{Request, Status, service::interceptor::InterceptedService};

/// Every order that the token's owner may see.
pub(crate) async fn orders(mesh: &Mesh, token: &str) -> anyhow::Result<Vec<Order>> {
    Ok(checker::orders(InterceptedService::new(mesh.channel("order"), bearer(token)?)).await?)
}

/// The ledger of a bank on the embedded stores.
pub(crate) fn embedded_ledger(data: &Path) -> String {
    format!("sqlite://{}", data.join("payment-provider.db").display())
}

/// All books of a system whose bank has its ledger there, and whose shelves held `on_hand` before the first order.
pub(crate) async fn books(mesh: &Mesh, token: &str, ledger: &str, on_hand: BTreeMap<String, i64>) -> anyhow::Result<Books> {
    let order = InterceptedService::new(mesh.channel("order"), bearer(token)?);
    let mut books = Books::collect(order, mesh.channel("inventory"), mesh.channel("payment"), on_hand).await?;
    let ledger = sinew_sql::Db::open(ledger, sinew_sql::DEFAULT_CONNECTIONS).await?;
    books.ledger = shop_payment::read_ledger(&ledger).await?;
    ledger.close().await;
    Ok(books)
}

/// Puts the token on each request.
fn bearer(token: &str) -> anyhow::Result<impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static> {
    let value: tonic::metadata::AsciiMetadataValue = format!("Bearer {token}").parse()?;
    Ok(move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", value.clone());
        Ok(request)
    })
}
