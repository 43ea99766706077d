//! Asks everybody for what they hold.

use crate::Books;
use contracts::{
    inventory::v1::{GetStockRequest, ListReservationsRequest, inventory_service_client::InventoryServiceClient},
    order::v1::{ListOrdersRequest, Order, order_service_client::OrderServiceClient},
    payment::v1::{ListPaymentsRequest, payment_service_client::PaymentServiceClient},
};
use shop_order::Channel;
use std::collections::BTreeMap;
use tonic::Status;

/// The largest page that is given.
const PAGE: i32 = 500;

/// Every order that the channel's caller may see.
pub async fn orders(order: impl Channel) -> Result<Vec<Order>, Status> {
    let mut client = OrderServiceClient::new(order);
    let (mut orders, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListOrdersRequest { page_size: PAGE, page_token, ..ListOrdersRequest::default() };
        let page = client.list_orders(request).await?.into_inner();
        orders.extend(page.orders);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(orders);
        }
    }
}

impl Books {
    /// All but the bank's ledger, which nobody serves; the shelves held `on_hand` before the first order.
    pub async fn collect(
        order: impl Channel,
        inventory: impl Channel,
        payment: impl Channel,
        on_hand: BTreeMap<String, i64>,
    ) -> Result<Self, Status> {
        let mut books = Self { orders: orders(order).await?, ..Self::default() };
        let mut inventory = InventoryServiceClient::new(inventory);
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
        let mut payments = PaymentServiceClient::new(payment);
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
        books.on_hand = on_hand;
        Ok(books)
    }
}
