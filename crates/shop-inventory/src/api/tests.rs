//! The rpcs on a SQLite file: what callers see, field by field.

use super::Api;
use crate::{App, Config};
use contracts::inventory::v1::{inventory_service_server::InventoryService, *};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

struct Service {
    api: Api<crate::infrastructure::SqlWarehouse>,
    app: App,
    _folder: tempfile::TempDir,
}

async fn service() -> Service {
    let folder = tempfile::tempdir().unwrap();
    let app = App::build(Config::in_folder(folder.path())).await.unwrap();
    Service { api: app.api(), app, _folder: folder }
}

impl Service {
    async fn adjust(&self, product_id: &str, delta: i64) -> Result<Stock, Status> {
        let idempotency_key = Uuid::now_v7().to_string();
        let request = AdjustStockRequest { idempotency_key, product_id: product_id.into(), delta };
        Ok(self.api.adjust_stock(Request::new(request)).await?.into_inner().stock.unwrap())
    }
    async fn reserve(&self, id: &str, lines: &[(&str, i64)]) -> Result<Reservation, Status> {
        let line = |(id, quantity): &(&str, i64)| ReservationLine { product_id: (*id).into(), quantity: *quantity };
        let request =
            ReserveRequest { idempotency_key: "k".into(), reservation_id: id.into(), lines: lines.iter().map(line).collect() };
        Ok(self.api.reserve(Request::new(request)).await?.into_inner().reservation.unwrap())
    }
}

fn id() -> String {
    Uuid::now_v7().to_string()
}

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations.into_iter().map(|violation| violation.field).collect()
}

fn reason(status: &Status) -> String {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let service = service().await;
    let request = ReserveRequest {
        idempotency_key: "x".repeat(65),
        reservation_id: "order".into(),
        lines: vec![
            ReservationLine { product_id: "1".into(), quantity: 1 },
            ReservationLine { product_id: "2".into(), quantity: 1 },
        ],
    };
    let status = service.api.reserve(Request::new(request)).await.unwrap_err();
    assert_eq!(fields(&status), ["idempotency_key", "reservation_id", "lines[0].product_id", "lines[1].product_id"]);
    let product = id();
    for quantity in [0, -1, i64::MIN, i64::MAX] {
        let status = service.reserve(&id(), &[(&id(), 1), (&product, quantity)]).await.unwrap_err();
        assert_eq!(fields(&status), ["lines[1].quantity"]);
    }
    assert_eq!(fields(&service.reserve(&id(), &[]).await.unwrap_err()), ["lines"]);
    assert_eq!(fields(&service.reserve(&id(), &[(&product, 1), (&product, 1)]).await.unwrap_err()), ["lines[1].product_id"]);
    assert_eq!(fields(&service.reserve(&id(), &vec![("x", 1); 100_000]).await.unwrap_err()), ["lines"]);
    for delta in [0, i64::MIN, i64::MAX, 1_000_001] {
        assert_eq!(fields(&service.adjust(&product, delta).await.unwrap_err()), ["delta"]);
    }
    let request = ListReservationsRequest { state: 9, page_size: -1, page_token: "'; DROP".into() };
    let status = service.api.list_reservations(Request::new(request)).await.unwrap_err();
    assert_eq!(fields(&status), ["page_size", "page_token", "state"]);
}

#[tokio::test]
async fn a_shortage_names_the_product_and_what_there_is() {
    let service = service().await;
    let product = id();
    service.adjust(&product, 3).await.unwrap();
    let status = service.reserve(&id(), &[(&product, 4)]).await.unwrap_err();
    assert_eq!(reason(&status), "INSUFFICIENT_STOCK");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(
        (violations[0].subject.as_str(), violations[0].description.as_str()),
        (product.as_str(), "4 requested, 3 available")
    );
    assert_eq!(reason(&service.adjust(&product, -4).await.unwrap_err()), "INSUFFICIENT_STOCK");
}

#[tokio::test]
async fn a_reservation_is_made_listed_and_released() {
    let service = service().await;
    let (product, order) = (id(), id());
    service.adjust(&product, 3).await.unwrap();
    let made = service.reserve(&order, &[(&product, 2)]).await.unwrap();
    assert_eq!(made.state(), ReservationState::Reserved);
    assert_eq!(fields(&service.reserve(&order, &[(&product, 1)]).await.unwrap_err()), ["lines"]);
    let listed = service.api.list_reservations(Request::new(ListReservationsRequest::default())).await.unwrap().into_inner();
    assert_eq!((listed.reservations, listed.next_page_token.as_str()), (vec![made], ""));
    let release = ReleaseRequest { idempotency_key: "k".into(), reservation_id: order.clone() };
    let released = service.api.release(Request::new(release)).await.unwrap().into_inner().reservation.unwrap();
    assert_eq!(released.state(), ReservationState::Released);
    assert_eq!(reason(&service.reserve(&order, &[(&product, 2)]).await.unwrap_err()), "RESERVATION_RELEASED");
    let stock = service.api.get_stock(Request::new(GetStockRequest { product_id: product })).await.unwrap().into_inner();
    assert_eq!(stock.stock.map(|stock| (stock.on_hand, stock.reserved, stock.available)), Some((3, 0, 3)));
    let unknown = service.api.get_stock(Request::new(GetStockRequest { product_id: id() })).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn pages_hold_everything_once() {
    let service = service().await;
    for _ in 0..5 {
        let _ = service.reserve(&id(), &[(&id(), 1)]).await.unwrap_err();
    }
    let mut seen = Vec::new();
    let mut request = ListReservationsRequest { state: ReservationState::Refused.into(), page_size: 2, ..Default::default() };
    loop {
        let page = service.api.list_reservations(Request::new(request.clone())).await.unwrap().into_inner();
        seen.extend(page.reservations.into_iter().map(|found| found.reservation_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted());
}

#[tokio::test]
async fn each_change_is_told_once_and_in_order() {
    let service = service().await;
    let (product, order) = (id(), id());
    service.adjust(&product, 3).await.unwrap();
    service.reserve(&order, &[(&product, 2)]).await.unwrap();
    service.reserve(&order, &[(&product, 2)]).await.unwrap();
    let release = ReleaseRequest { idempotency_key: "k".into(), reservation_id: order };
    for _ in 0..2 {
        service.api.release(Request::new(release.clone())).await.unwrap();
    }
    let outbox = sinew_events::Outbox::default();
    while outbox.sequence(service.app.db(), 100).await.unwrap() > 0 {}
    let events = outbox.read(service.app.db(), 0, 100).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.version)).collect();
    assert_eq!(told, [("stock.changed", 1), ("stock.reserved", 2), ("stock.released", 3)]);
    assert!(events.iter().all(|event| event.aggregate.to_string() == product));
}
