//! What inventory and payment answer, as the saga understands it. The generated servers are tower services: the clients
//! run on them without a network.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests count as tests")]

use contracts::{
    inventory::v1::{
        AdjustStockRequest, AdjustStockResponse, GetStockRequest, GetStockResponse, ListReservationsRequest,
        ListReservationsResponse, ReleaseRequest, ReleaseResponse, ReserveRequest, ReserveResponse,
        inventory_service_server::{InventoryService, InventoryServiceServer},
    },
    payment::v1::{
        ChargeRequest, ChargeResponse, GetPaymentRequest, GetPaymentResponse, ListPaymentsRequest, ListPaymentsResponse, Payment,
        RefundRequest, RefundResponse,
        payment_service_server::{PaymentService, PaymentServiceServer},
    },
};
use shop_order::{Currency, GrpcInventory, GrpcPayments, Inventory, Money, OrderId, Payments, Purchase};
use sinew_saga::{Failure, Reason};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

/// Both services: keep what came, and answer as told.
#[derive(Clone, Default)]
struct Peer {
    reserves: Arc<Mutex<Vec<ReserveRequest>>>,
    charges: Arc<Mutex<Vec<ChargeRequest>>>,
    answer: Option<Status>,
}

impl Peer {
    fn answer<T: Default>(&self) -> Result<Response<T>, Status> {
        self.answer.clone().map_or_else(|| Ok(Response::new(T::default())), Err)
    }
}

#[tonic::async_trait]
impl InventoryService for Peer {
    async fn get_stock(&self, _: Request<GetStockRequest>) -> Result<Response<GetStockResponse>, Status> {
        Err(Status::unimplemented("not asked by orders"))
    }
    async fn adjust_stock(&self, _: Request<AdjustStockRequest>) -> Result<Response<AdjustStockResponse>, Status> {
        Err(Status::unimplemented("not asked by orders"))
    }
    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<ReserveResponse>, Status> {
        self.reserves.lock().unwrap().push(request.into_inner());
        self.answer()
    }
    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        self.answer()
    }
    async fn list_reservations(&self, _: Request<ListReservationsRequest>) -> Result<Response<ListReservationsResponse>, Status> {
        Err(Status::unimplemented("not asked by orders"))
    }
}

#[tonic::async_trait]
impl PaymentService for Peer {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<ChargeResponse>, Status> {
        self.charges.lock().unwrap().push(request.into_inner());
        let mut charged: Response<ChargeResponse> = self.answer()?;
        charged.get_mut().payment = Some(Payment { provider_reference: "ch_7".into(), ..Payment::default() });
        Ok(charged)
    }
    async fn refund(&self, _: Request<RefundRequest>) -> Result<Response<RefundResponse>, Status> {
        self.answer()
    }
    async fn get_payment(&self, _: Request<GetPaymentRequest>) -> Result<Response<GetPaymentResponse>, Status> {
        Err(Status::unimplemented("not asked by orders"))
    }
    async fn list_payments(&self, _: Request<ListPaymentsRequest>) -> Result<Response<ListPaymentsResponse>, Status> {
        Err(Status::unimplemented("not asked by orders"))
    }
}

fn purchase() -> Purchase {
    Purchase {
        customer: Uuid::from_u128(1),
        lines: vec![(Uuid::from_u128(2), 3)],
        total: Money { amount: 750, currency: Currency::parse("EUR").unwrap() },
        payment_token: "tok_ok".into(),
    }
}

/// What all four calls make of this answer.
async fn outcomes(answer: Status) -> [Result<(), Failure>; 4] {
    let peer = Peer { answer: Some(answer), ..Peer::default() };
    let inventory = GrpcInventory::new(InventoryServiceServer::new(peer.clone()));
    let payments = GrpcPayments::new(PaymentServiceServer::new(peer));
    let order = OrderId(Uuid::now_v7());
    [
        inventory.reserve(order, &purchase()).await,
        inventory.release(order).await,
        payments.charge(order, &purchase()).await.map(drop),
        payments.refund(order).await,
    ]
}

/// The mesh's channel is one that the clients run on: a matter for the compiler.
#[expect(dead_code, reason = "only compiled")]
fn clients_run_on_the_mesh(mesh: &sinew::Mesh) -> shop_order::Deps {
    shop_order::Deps::new(GrpcInventory::new(mesh.channel("inventory")), GrpcPayments::new(mesh.channel("payment")))
}

#[tokio::test]
async fn the_orders_id_names_everything_done_for_it() {
    let peer = Peer::default();
    let order = OrderId(Uuid::now_v7());
    GrpcInventory::new(InventoryServiceServer::new(peer.clone())).reserve(order, &purchase()).await.unwrap();
    let receipt = GrpcPayments::new(PaymentServiceServer::new(peer.clone())).charge(order, &purchase()).await.unwrap();
    assert_eq!(receipt.reference, "ch_7");
    let id = order.0.to_string();
    let reserve = peer.reserves.lock().unwrap().remove(0);
    assert_eq!((&reserve.idempotency_key, &reserve.reservation_id), (&id, &id));
    assert_eq!((&*reserve.lines[0].product_id, reserve.lines[0].quantity), (&*Uuid::from_u128(2).to_string(), 3));
    let charge = peer.charges.lock().unwrap().remove(0);
    assert_eq!((&charge.idempotency_key, &charge.payment_id), (&id, &id));
    assert_eq!((charge.amount.unwrap().amount, &*charge.payment_token), (750, "tok_ok"));
}

#[tokio::test]
async fn a_decided_answer_is_final_with_the_services_own_reason() {
    let details = ErrorDetails::with_error_info("PAYMENT_DECLINED", "payment.shop", HashMap::new());
    for outcome in outcomes(Status::with_error_details(Code::FailedPrecondition, "no", details)).await {
        assert_eq!(outcome, Err(Failure::Refused(Reason::new("PAYMENT_DECLINED", "no"))));
    }
    for outcome in outcomes(Status::invalid_argument("bad")).await {
        assert_eq!(outcome, Err(Failure::Refused(Reason::new("INVALID_ARGUMENT", "bad"))));
    }
}

#[tokio::test]
async fn an_answer_from_trouble_leaves_the_outcome_unknown() {
    for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Internal, Code::Unknown, Code::Aborted, Code::ResourceExhausted] {
        for outcome in outcomes(Status::new(code, "trouble")).await {
            assert!(matches!(outcome, Err(Failure::Unknown(_))), "{code:?} {outcome:?}");
        }
    }
}
