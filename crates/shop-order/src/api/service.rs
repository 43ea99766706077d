//! The rpcs: check what came, ask the domain, answer.

use super::{caller::caller, wire};
use crate::domain::{Cancel, Cart, CartError, CartLine, CustomerId, OrderId, Orders, Page, Place, ProductId, place};
use contracts::order::v1::{
    CancelOrderRequest, CancelOrderResponse, GetOrderRequest, GetOrderResponse, ListOrdersRequest, ListOrdersResponse,
    PlaceOrderLine, PlaceOrderRequest, PlaceOrderResponse, order_service_server::OrderService,
};
use sinew::Violations;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// The longest payment token: whatever providers hand out is shorter.
const MAX_TOKEN: usize = 128;

/// `shop.order.v1.OrderService` over a store of orders.
#[derive(Debug, Clone)]
pub struct Api<O> {
    orders: O,
}

impl<O: Orders> Api<O> {
    /// Over this store.
    pub fn new(orders: O) -> Self {
        Self { orders }
    }
}

#[tonic::async_trait]
impl<O: Orders> OrderService for Api<O> {
    async fn place_order(&self, request: Request<PlaceOrderRequest>) -> Result<Response<PlaceOrderResponse>, Status> {
        let customer = caller(&request)?.id;
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let cart = cart(&mut bad, &request.lines);
        bad.text("payment_token", &request.payment_token, 1..=MAX_TOKEN);
        bad.check()?;
        let cart = cart.ok_or_else(|| Status::internal("a cart without violations is none"))?;
        let wish = Place { customer, cart, payment_token: request.payment_token, key: request.idempotency_key };
        let order = place(&self.orders, &wish).await?;
        Ok(Response::new(PlaceOrderResponse { order: Some(wire::order(&order)) }))
    }

    async fn get_order(&self, request: Request<GetOrderRequest>) -> Result<Response<GetOrderResponse>, Status> {
        let caller = caller(&request)?;
        let mut bad = Violations::default();
        let id = OrderId(bad.id("order_id", &request.get_ref().order_id));
        bad.check()?;
        let order = self.orders.get(id).await?;
        if !caller.may_see(order.customer) {
            return Err(crate::domain::Error::Forbidden.into());
        }
        Ok(Response::new(GetOrderResponse { order: Some(wire::order(&order)) }))
    }

    async fn list_orders(&self, request: Request<ListOrdersRequest>) -> Result<Response<ListOrdersResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let mut bad = Violations::default();
        let asked = (!request.user_id.is_empty()).then(|| CustomerId(bad.id("user_id", &request.user_id)));
        let size = bad.page_size(request.page_size);
        let before = bad.page_token(&request.page_token).map(OrderId);
        bad.check()?;
        let customer = asked.or((!caller.admin).then_some(caller.id));
        if customer.is_some_and(|customer| !caller.may_see(customer)) {
            return Err(Status::permission_denied("these are another customer's orders"));
        }
        // One more than asked for tells whether a page follows.
        let mut found = self.orders.list(Page { customer, before, limit: size + 1 }).await?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = found.last().filter(|_| more).map(|last| last.id.0.to_string()).unwrap_or_default();
        Ok(Response::new(ListOrdersResponse { orders: found.iter().map(wire::order).collect(), next_page_token }))
    }

    async fn cancel_order(&self, request: Request<CancelOrderRequest>) -> Result<Response<CancelOrderResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let order = OrderId(bad.id("order_id", &request.order_id));
        bad.check()?;
        let order = self.orders.cancel(&Cancel { order, caller, key: request.idempotency_key }).await?;
        Ok(Response::new(CancelOrderResponse { order: Some(wire::order(&order)) }))
    }
}

/// The cart, or violations by the index that its lines had in the request.
fn cart(bad: &mut Violations, lines: &[PlaceOrderLine]) -> Option<Cart> {
    // Past the maximum nothing is looked at: there are too many, whatever they are.
    let looked_at = lines.iter().take(Cart::MAX_LINES + 1).enumerate();
    let lines: Vec<CartLine> = looked_at
        .map(|(index, line)| {
            let product = ProductId(bad.id(format!("lines[{index}].product_id"), &line.product_id));
            CartLine { product, quantity: line.quantity }
        })
        .collect();
    let bad_ids = lines.iter().any(|line| line.product.0 == Uuid::nil());
    let error = match Cart::new(lines) {
        Ok(cart) => return Some(cart),
        Err(error) => error,
    };
    match error {
        CartError::Empty | CartError::TooMany => bad.add("lines", error),
        CartError::Quantity(index) => bad.add(format!("lines[{index}].quantity"), error),
        // Two ids that are none look alike; each was reported already.
        CartError::Repeated(_) if bad_ids => {}
        CartError::Repeated(index) => bad.add(format!("lines[{index}].product_id"), error),
    }
    None
}
