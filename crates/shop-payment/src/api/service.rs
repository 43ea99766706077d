//! The rpcs: check what came, ask the cashier, answer.

use super::wire;
use crate::domain::{Books, Cashier, Charge, CustomerId, Money, MoneyError, Page, PaymentId, Provider, Token};
use contracts::{
    payment::v1::{
        ChargeRequest, ChargeResponse, GetPaymentRequest, GetPaymentResponse, ListPaymentsRequest, ListPaymentsResponse,
        PaymentState, RefundRequest, RefundResponse, payment_service_server::PaymentService,
    },
    r#type::v1::Money as MoneyMessage,
};
use sinew::Violations;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// `shop.payment.v1.PaymentService` over a cashier.
#[derive(Debug)]
pub struct Api<B, P> {
    cashier: Arc<Cashier<B, P>>,
}

impl<B: Books, P: Provider> Api<B, P> {
    /// Over this cashier.
    pub fn new(cashier: Arc<Cashier<B, P>>) -> Self {
        Self { cashier }
    }
}

#[tonic::async_trait]
impl<B: Books, P: Provider> PaymentService for Api<B, P> {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<ChargeResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let id = PaymentId(bad.id("payment_id", &request.payment_id));
        let customer = CustomerId(bad.id("customer_id", &request.customer_id));
        // 128: as long as any provider's; it is a name for a card, not the card.
        bad.text("payment_token", &request.payment_token, 1..=128);
        let money = money(&mut bad, request.amount.unwrap_or_default());
        bad.check()?;
        let Some(money) = money else { return Err(Status::internal("a missing amount was let through")) };
        let charge = Charge { id, customer, money, token: Token(request.payment_token) };
        let payment = self.cashier.charge(&charge).await?;
        Ok(Response::new(ChargeResponse { payment: Some(wire::payment(&payment)) }))
    }

    async fn refund(&self, request: Request<RefundRequest>) -> Result<Response<RefundResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let id = PaymentId(bad.id("payment_id", &request.payment_id));
        bad.check()?;
        let payment = self.cashier.refund(id).await?;
        Ok(Response::new(RefundResponse { payment: Some(wire::payment(&payment)) }))
    }

    async fn get_payment(&self, request: Request<GetPaymentRequest>) -> Result<Response<GetPaymentResponse>, Status> {
        let mut bad = Violations::default();
        let id = PaymentId(bad.id("payment_id", &request.get_ref().payment_id));
        bad.check()?;
        let payment = self.cashier.get(id).await?;
        Ok(Response::new(GetPaymentResponse { payment: Some(wire::payment(&payment)) }))
    }

    async fn list_payments(&self, request: Request<ListPaymentsRequest>) -> Result<Response<ListPaymentsResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let size = bad.page_size(request.page_size);
        let after = bad.page_token(&request.page_token).map(PaymentId);
        let state = PaymentState::try_from(request.state).unwrap_or_else(|_| {
            bad.add("state", "must be a known state");
            PaymentState::Unspecified
        });
        bad.check()?;
        // One more than asked for tells whether a page follows.
        let page = Page { state: wire::state_name(state), after, limit: size as i64 + 1 };
        let mut found = self.cashier.list(page).await?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = found.last().filter(|_| more).map(|last| last.id.0.to_string()).unwrap_or_default();
        Ok(Response::new(ListPaymentsResponse { payments: found.iter().map(wire::payment).collect(), next_page_token }))
    }
}

/// The amount; none after a violation.
fn money(bad: &mut Violations, message: MoneyMessage) -> Option<Money> {
    let money = Money::new(message.amount, &message.currency);
    if let Err(error) = money {
        let field = match error {
            MoneyError::Amount => "amount.amount",
            MoneyError::Currency => "amount.currency",
        };
        bad.add(field, error);
    }
    money.ok()
}
