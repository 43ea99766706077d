//! The rpcs on SQLite files: what callers see, and what the provider did.

use super::Api;
use crate::{
    App, Config,
    infrastructure::{EmbeddedProvider, LedgerState, SqlBooks, read_ledger},
};
use contracts::{
    payment::v1::{payment_service_server::PaymentService, *},
    r#type::v1::Money,
};
use sinew_sql::Db;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

struct Service {
    api: Api<SqlBooks, EmbeddedProvider>,
    app: App,
    folder: tempfile::TempDir,
}

async fn service() -> Service {
    let folder = tempfile::tempdir().unwrap();
    let app = App::build(Config::in_folder(folder.path())).await.unwrap();
    Service { api: app.api(), app, folder }
}

impl Service {
    async fn charge(&self, request: &ChargeRequest) -> Result<Payment, Status> {
        Ok(self.api.charge(Request::new(request.clone())).await?.into_inner().payment.unwrap())
    }
    async fn refund(&self, payment_id: &str) -> Result<Payment, Status> {
        let request = RefundRequest { idempotency_key: "k".into(), payment_id: payment_id.into() };
        Ok(self.api.refund(Request::new(request)).await?.into_inner().payment.unwrap())
    }
    /// State, takings and money held of the only key in the provider's ledger.
    async fn ledger(&self) -> Option<(LedgerState, i64, i64)> {
        let db = Db::open(&Config::in_folder(self.folder.path()).provider_url, 1).await.unwrap();
        let entries = read_ledger(&db).await.unwrap();
        assert!(entries.len() < 2);
        entries.first().map(|entry| (entry.state, entry.takings, entry.held))
    }
    async fn told(&self) -> Vec<(String, i64)> {
        while sinew_events::Outbox::default().sequence(self.app.db(), 100).await.unwrap() > 0 {}
        let events = sinew_events::Outbox::default().read(self.app.db(), 0, 100).await.unwrap();
        events.into_iter().map(|event| (event.kind, event.version)).collect()
    }
}

fn request(token: &str) -> ChargeRequest {
    ChargeRequest {
        idempotency_key: "k".into(),
        payment_id: Uuid::now_v7().to_string(),
        customer_id: Uuid::now_v7().to_string(),
        amount: Some(Money { amount: 1_999, currency: "EUR".into() }),
        payment_token: token.into(),
    }
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
    let nothing = service.charge(&ChargeRequest::default()).await.unwrap_err();
    assert_eq!(fields(&nothing), ["idempotency_key", "payment_id", "customer_id", "payment_token", "amount.amount"]);
    for amount in [0, -1, i64::MIN, i64::MAX] {
        let bad = ChargeRequest { amount: Some(Money { amount, currency: "EUR".into() }), ..request("tok_ok") };
        assert_eq!(fields(&service.charge(&bad).await.unwrap_err()), ["amount.amount"]);
    }
    for currency in ["", "eur", "XXX"] {
        let bad = ChargeRequest { amount: Some(Money { amount: 1, currency: currency.into() }), ..request("tok_ok") };
        assert_eq!(fields(&service.charge(&bad).await.unwrap_err()), ["amount.currency"]);
    }
    assert_eq!(fields(&service.charge(&request(&"x".repeat(129))).await.unwrap_err()), ["payment_token"]);
    assert_eq!(fields(&service.refund("order").await.unwrap_err()), ["payment_id"]);
    assert_eq!(service.ledger().await, None, "the provider was asked about none of it");
}

#[tokio::test]
async fn a_charge_is_made_once_and_refunded_once() {
    let service = service().await;
    let request = request("tok_ok");
    let paid = service.charge(&request).await.unwrap();
    assert_eq!(paid.state(), PaymentState::Charged);
    assert_eq!(service.charge(&request).await.unwrap(), paid);
    assert_eq!(service.ledger().await, Some((LedgerState::Taken, 1, 1_999)));
    let other = ChargeRequest { amount: Some(Money { amount: 1, currency: "EUR".into() }), ..request.clone() };
    assert_eq!(fields(&service.charge(&other).await.unwrap_err()), ["payment_id"]);

    let refunded = service.refund(&paid.payment_id).await.unwrap();
    assert_eq!(refunded.state(), PaymentState::Refunded);
    assert_eq!(service.refund(&paid.payment_id).await.unwrap(), refunded);
    assert_eq!(service.ledger().await, Some((LedgerState::Returned, 1, 0)));
    assert_eq!(reason(&service.charge(&request).await.unwrap_err()), "PAYMENT_REFUNDED");
    assert_eq!(service.told().await, [("payment.charged".into(), 2), ("payment.refunded".into(), 4)]);
}

#[tokio::test]
async fn a_declined_card_is_declined_the_same_each_time() {
    let service = service().await;
    let request = request("tok_declined");
    for _ in 0..2 {
        let status = service.charge(&request).await.unwrap_err();
        assert_eq!(reason(&status), "PAYMENT_DECLINED");
        assert_eq!(status.get_details_error_info().unwrap().metadata["decline_reason"], "card_declined");
    }
    assert_eq!(service.refund(&request.payment_id).await.unwrap().state(), PaymentState::Declined);
    assert_eq!(service.ledger().await, Some((LedgerState::Declined, 0, 0)));
    assert_eq!(service.told().await, [("payment.declined".into(), 2)]);
}

#[tokio::test]
async fn a_time_out_that_took_the_money_is_found_and_not_charged_again() {
    let service = service().await;
    let request = request("tok_timeout");
    for _ in 0..2 {
        assert_eq!(service.charge(&request).await.unwrap().state(), PaymentState::Charged);
    }
    assert_eq!(service.ledger().await, Some((LedgerState::Taken, 1, 1_999)));
}

#[tokio::test]
async fn a_refund_that_comes_first_refuses_the_charge() {
    let service = service().await;
    let request = request("tok_ok");
    let voided = service.refund(&request.payment_id).await.unwrap();
    assert_eq!((voided.state(), voided.amount.is_none()), (PaymentState::Voided, true));
    assert_eq!(reason(&service.charge(&request).await.unwrap_err()), "PAYMENT_REFUNDED");
    assert_eq!(service.ledger().await, None);
    assert_eq!(service.told().await, []);
}

#[tokio::test]
async fn payments_are_found_and_listed() {
    let service = service().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let request = request(if n == 3 { "tok_declined" } else { "tok_ok" });
        let _ = service.charge(&request).await;
        ids.push(request.payment_id);
    }
    let mut seen = Vec::new();
    let mut page = ListPaymentsRequest { page_size: 2, ..Default::default() };
    loop {
        let found = service.api.list_payments(Request::new(page.clone())).await.unwrap().into_inner();
        seen.extend(found.payments.into_iter().map(|payment| payment.payment_id));
        page.page_token = found.next_page_token;
        if page.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let declined = ListPaymentsRequest { state: PaymentState::Declined.into(), ..Default::default() };
    let found = service.api.list_payments(Request::new(declined)).await.unwrap().into_inner().payments;
    assert_eq!((found.len(), found[0].decline_reason.as_str()), (1, "card_declined"));
    let get = GetPaymentRequest { payment_id: ids[3].clone() };
    assert_eq!(service.api.get_payment(Request::new(get)).await.unwrap().into_inner().payment, Some(found[0].clone()));
    let unknown = GetPaymentRequest { payment_id: Uuid::now_v7().to_string() };
    assert_eq!(service.api.get_payment(Request::new(unknown)).await.unwrap_err().code(), Code::NotFound);
}
