//! The rpcs: check what came, ask the warehouse, answer.

use super::wire;
use crate::domain::{Adjustment, Caller, Line, Lines, LinesError, MAX_QUANTITY, Page, ProductId, ReservationId, Warehouse};
use contracts::inventory::v1::{
    AdjustStockRequest, AdjustStockResponse, GetStockRequest, GetStockResponse, ListReservationsRequest, ListReservationsResponse,
    ReleaseRequest, ReleaseResponse, ReservationLine, ReservationState, ReserveRequest, ReserveResponse,
    inventory_service_server::InventoryService,
};
use sinew::Claims;
use sinew::Violations;
use tonic::{Extensions, Request, Response, Status};

/// `shop.inventory.v1.InventoryService` over a warehouse.
#[derive(Debug, Clone)]
pub struct Api<W> {
    warehouse: W,
}

impl<W: Warehouse> Api<W> {
    /// Over this warehouse.
    pub fn new(warehouse: W) -> Self {
        Self { warehouse }
    }
}

#[tonic::async_trait]
impl<W: Warehouse> InventoryService for Api<W> {
    async fn get_stock(&self, request: Request<GetStockRequest>) -> Result<Response<GetStockResponse>, Status> {
        let mut bad = Violations::default();
        let product = ProductId(bad.id("product_id", &request.get_ref().product_id));
        bad.check()?;
        let stock = self.warehouse.stock(product).await?;
        Ok(Response::new(GetStockResponse { stock: Some(wire::stock(&stock)) }))
    }

    async fn adjust_stock(&self, request: Request<AdjustStockRequest>) -> Result<Response<AdjustStockResponse>, Status> {
        let caller = caller(request.extensions());
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let product = ProductId(bad.id("product_id", &request.product_id));
        if request.delta == 0 || request.delta.unsigned_abs() > MAX_QUANTITY.unsigned_abs() {
            bad.add("delta", format!("must not be 0, and at most {MAX_QUANTITY} either way"));
        }
        bad.check()?;
        let adjustment = Adjustment { product, delta: request.delta, key: request.idempotency_key, caller };
        let stock = self.warehouse.adjust(&adjustment).await?;
        Ok(Response::new(AdjustStockResponse { stock: Some(wire::stock(&stock)) }))
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<ReserveResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let id = ReservationId(bad.id("reservation_id", &request.reservation_id));
        let lines = lines(&mut bad, &request.lines);
        bad.check()?;
        let reservation = self.warehouse.reserve(id, &lines).await?;
        Ok(Response::new(ReserveResponse { reservation: Some(wire::reservation(&reservation)) }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let id = ReservationId(bad.id("reservation_id", &request.reservation_id));
        bad.check()?;
        let reservation = self.warehouse.release(id).await?;
        Ok(Response::new(ReleaseResponse { reservation: Some(wire::reservation(&reservation)) }))
    }

    async fn list_reservations(
        &self,
        request: Request<ListReservationsRequest>,
    ) -> Result<Response<ListReservationsResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let size = bad.page_size(request.page_size);
        let after = bad.page_token(&request.page_token).map(ReservationId);
        let state = ReservationState::try_from(request.state).unwrap_or_else(|_| {
            bad.add("state", "must be a known state");
            ReservationState::Unspecified
        });
        bad.check()?;
        // One more than asked for tells whether a page follows.
        let mut found = self.warehouse.reservations(Page { state: wire::state_name(state), after, limit: size as i64 + 1 }).await?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = found.last().filter(|_| more).map(|last| last.id.0.to_string()).unwrap_or_default();
        let reservations = found.iter().map(wire::reservation).collect();
        Ok(Response::new(ListReservationsResponse { reservations, next_page_token }))
    }
}

/// Whose idempotency keys these are. Without a token it is the mesh itself.
fn caller(extensions: &Extensions) -> Caller {
    Caller(extensions.get::<Claims>().map_or_else(|| "mesh".to_owned(), |claims| claims.sub.clone()))
}

/// The lines, or violations by the index they had in the request.
fn lines(bad: &mut Violations, lines: &[ReservationLine]) -> Lines {
    if lines.len() > Lines::MAX {
        bad.add("lines", LinesError::TooMany);
        return Lines::default();
    }
    let mut id =
        |(index, line): (usize, &ReservationLine)| ProductId(bad.id(format!("lines[{index}].product_id"), &line.product_id));
    let ids: Vec<_> = lines.iter().enumerate().map(&mut id).collect();
    let all_ids = ids.iter().all(|id| !id.0.is_nil());
    let lines = lines.iter().zip(ids).map(|(line, product)| Line { product, quantity: line.quantity });
    Lines::new(lines).unwrap_or_else(|error| {
        let field = match &error {
            LinesError::Empty | LinesError::TooMany => "lines".to_owned(),
            LinesError::Quantity(index) => format!("lines[{index}].quantity"),
            LinesError::Repeated(index) => format!("lines[{index}].product_id"),
        };
        // Two ids that are none look alike; each was reported already.
        if !matches!(error, LinesError::Repeated(_)) || all_ids {
            bad.add(field, error);
        }
        Lines::default()
    })
}
