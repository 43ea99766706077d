//! Collects what everybody holds.

use crate::books::Books;
use contracts::{
    inventory::v1::{GetStockRequest, ListReservationsRequest, inventory_service_client::InventoryServiceClient},
    order::v1::{ListOrdersRequest, Order, order_service_client::OrderServiceClient},
    payment::v1::{ListPaymentsRequest, payment_service_client::PaymentServiceClient},
};
use sinew::Mesh;
use std::{collections::BTreeMap, path::Path};
use tonic::Request;

/// The largest page that is given.
const PAGE: i32 = 500;

/// Every order that the token's owner may see.
pub(crate) async fn orders(mesh: &Mesh, token: &str) -> anyhow::Result<Vec<Order>> {
    let mut client = OrderServiceClient::new(mesh.channel("order"));
    let (mut orders, mut page_token) = (Vec::new(), String::new());
    loop {
        let mut request = Request::new(ListOrdersRequest { page_size: PAGE, page_token, ..ListOrdersRequest::default() });
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let page = client.list_orders(request).await?.into_inner();
        orders.extend(page.orders);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(orders);
        }
    }
}

/// The ledger of a bank on the embedded stores.
pub(crate) fn embedded_ledger(data: &Path) -> String {
    format!("sqlite://{}", data.join("payment-provider.db").display())
}

/// All books of a system whose bank has its ledger there, and whose shelves held `on_hand` before the first order.
pub(crate) async fn books(mesh: &Mesh, token: &str, ledger: &str, on_hand: BTreeMap<String, i64>) -> anyhow::Result<Books> {
    let mut books = Books { orders: orders(mesh, token).await?, ..Books::default() };
    let mut inventory = InventoryServiceClient::new(mesh.channel("inventory"));
    let mut page_token = String::new();
    loop {
        let request = ListReservationsRequest { page_size: PAGE, page_token, ..ListReservationsRequest::default() };
        let page = inventory.list_reservations(request).await?.into_inner();
        books.reservations.extend(page.reservations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut payments = PaymentServiceClient::new(mesh.channel("payment"));
    loop {
        let request = ListPaymentsRequest { page_size: PAGE, page_token, ..ListPaymentsRequest::default() };
        let page = payments.list_payments(request).await?.into_inner();
        books.payments.extend(page.payments);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    for product_id in on_hand.keys() {
        let request = GetStockRequest { product_id: product_id.clone() };
        books.stock.extend(inventory.get_stock(request).await?.into_inner().stock);
    }
    let ledger = sinew_sql::Db::open(ledger, sinew_sql::DEFAULT_CONNECTIONS).await?;
    books.ledger = shop_payment::read_ledger(&ledger).await?;
    ledger.close().await;
    books.on_hand = on_hand;
    Ok(books)
}
