//! The inventory and payment services over gRPC.

use crate::{
    api::wire,
    domain::{Inventory, OrderId, Payments, Purchase, Receipt},
};
use contracts::{
    inventory::v1::{ReleaseRequest, ReservationLine, ReserveRequest, inventory_service_client::InventoryServiceClient},
    payment::v1::{ChargeRequest, RefundRequest, payment_service_client::PaymentServiceClient},
};
use sinew_core::{BoxFuture, classify::Code};
use sinew_saga::{Failure, Reason};
use tonic::{
    Status,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
};
use tonic_types::StatusExt;

/// Any channel that generated clients run on: the mesh's, or a server in this process.
pub trait Channel:
    GrpcService<Body, ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Channel for T where
    T: GrpcService<Body, ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The inventory service.
#[derive(Debug, Clone)]
pub struct GrpcInventory<T>(InventoryServiceClient<T>);

impl<T: Channel> GrpcInventory<T> {
    /// Behind this channel.
    pub fn new(channel: T) -> Self {
        Self(InventoryServiceClient::new(channel))
    }
}

impl<T: Channel> Inventory for GrpcInventory<T> {
    fn reserve<'a>(&'a self, order: OrderId, purchase: &'a Purchase) -> BoxFuture<'a, Result<(), Failure>> {
        let mut client = self.0.clone();
        let line =
            |(product, quantity): (crate::domain::ProductId, i64)| ReservationLine { product_id: product.0.to_string(), quantity };
        let (idempotency_key, reservation_id) = ids(order);
        let request = ReserveRequest { idempotency_key, reservation_id, lines: purchase.products().map(line).collect() };
        Box::pin(async move { client.reserve(request).await.map(drop).map_err(failure) })
    }

    fn release(&self, order: OrderId) -> BoxFuture<'_, Result<(), Failure>> {
        let mut client = self.0.clone();
        let (idempotency_key, reservation_id) = ids(order);
        Box::pin(async move { client.release(ReleaseRequest { idempotency_key, reservation_id }).await.map(drop).map_err(failure) })
    }
}

/// The payment service.
#[derive(Debug, Clone)]
pub struct GrpcPayments<T>(PaymentServiceClient<T>);

impl<T: Channel> GrpcPayments<T> {
    /// Behind this channel.
    pub fn new(channel: T) -> Self {
        Self(PaymentServiceClient::new(channel))
    }
}

impl<T: Channel> Payments for GrpcPayments<T> {
    fn charge<'a>(&'a self, order: OrderId, purchase: &'a Purchase) -> BoxFuture<'a, Result<Receipt, Failure>> {
        let mut client = self.0.clone();
        let (idempotency_key, payment_id) = ids(order);
        let request = ChargeRequest {
            idempotency_key,
            payment_id,
            customer_id: purchase.customer.to_string(),
            amount: Some(wire::money(purchase.total)),
            payment_token: purchase.payment_token.clone(),
        };
        Box::pin(async move {
            let charged = client.charge(request).await.map_err(failure)?.into_inner();
            Ok(Receipt { reference: charged.payment.unwrap_or_default().provider_reference })
        })
    }

    fn refund(&self, order: OrderId) -> BoxFuture<'_, Result<(), Failure>> {
        let mut client = self.0.clone();
        let (idempotency_key, payment_id) = ids(order);
        Box::pin(async move { client.refund(RefundRequest { idempotency_key, payment_id }).await.map(drop).map_err(failure) })
    }
}

/// The order's id is the key and the id of all that is done for it.
fn ids(order: OrderId) -> (String, String) {
    (order.0.to_string(), order.0.to_string())
}

/// What a status says of the effect; its reason is that of `google.rpc.ErrorInfo`, or the code's name.
fn failure(status: Status) -> Failure {
    let code = Code::from_number(status.code() as i32);
    let reason = status.get_details_error_info().map_or_else(|| code.name().to_owned(), |info| info.reason);
    Failure::from_code(code, Reason::new(reason, status.message()))
}
