//! REST as the contracts annotate it.

use crate::harness::{self, Fake, edge, edge_with, jwks, policies, serve, user};
use http::Method;
use serde_json::json;
use sinew_gateway::Gateway;
use uuid::Uuid;

const ORDER: &str = r#"{"lines":[{"productId":"p1","quantity":"2"}],"paymentToken":"tok_ok"}"#;

#[tokio::test]
async fn a_created_resource_is_201_with_its_place_and_zero_values_are_written() {
    let edge = edge().await;
    edge.fake.respond(|_| Ok(json!({"order": {"orderId": "o1", "total": {"amount": "12"}, "state": "ORDER_STATE_STARTED"}})));
    let answer = edge.post("/api/v1/orders", Some(&user()), ORDER).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (201, Some("/api/v1/orders/o1")), "{answer:?}");
    let order = &answer.json()["order"];
    // Zero values, 64-bit numbers as text, enums by name.
    assert_eq!((&order["version"], &order["customerName"], &order["lines"]), (&json!("0"), &json!(""), &json!([])));
    assert_eq!((&order["state"], &order["failureReason"]), (&json!("ORDER_STATE_STARTED"), &json!("FAILURE_REASON_UNSPECIFIED")));

    let seen = edge.fake.calls().remove(0);
    assert_eq!((seen.service.as_str(), seen.uri.as_str()), ("order", "/shop.order.v1.OrderService/PlaceOrder"));
    assert_eq!(seen.json()["lines"], json!([{"productId": "p1", "quantity": "2"}]));
    assert_eq!(seen.headers["authorization"], *user());
    // What is no creation is 200.
    edge.fake.respond(|_| Ok(json!({"accessToken": "t"})));
    let (_, log_in) = harness::rest(&harness::method("/shop.user.v1.UserService/Authenticate")).expect("annotated");
    let session = edge.post(&log_in, None, r#"{"email":"a@b","password":"x"}"#).await;
    assert_eq!((session.status.as_u16(), session.header("location")), (200, None));
}

#[tokio::test]
async fn paths_and_queries_fill_the_request() {
    let edge = edge().await;
    edge.get("/api/v1/orders/a%20b%2Fc", Some(&user())).await;
    edge.get("/api/v1/orders?user_id=u%201&pageSize=7&page_token=x+y", Some(&user())).await;
    edge.post("/api/v1/orders/o1:cancel", Some(&user()), "").await;
    let head = edge.http(Method::HEAD, "/api/v1/products", &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let seen: Vec<_> = edge.fake.calls().iter().map(|s| s.json()).collect();
    assert_eq!(seen[0], json!({"orderId": "a b/c"}));
    assert_eq!(seen[1], json!({"userId": "u 1", "pageSize": 7, "pageToken": "x y"}));
    assert_eq!(seen[2]["orderId"], "o1");
}

#[tokio::test]
async fn the_idempotency_key_is_the_headers_the_bodys_or_ours() {
    let edge = edge().await;
    let token = user();
    let auth = ("authorization", token.as_str());
    for header in ["abc", "\"abc\""] {
        edge.http(Method::POST, "/api/v1/orders", &[auth, ("Idempotency-Key", header)], ORDER).await;
    }
    edge.http(Method::POST, "/api/v1/orders", &[auth, ("Idempotency-Key", "k")], r#"{"idempotencyKey":"k"}"#).await;
    edge.http(Method::POST, "/api/v1/orders", &[auth], r#"{"idempotencyKey":"mine"}"#).await;
    edge.http(Method::POST, "/api/v1/orders", &[auth], ORDER).await;
    let keys: Vec<_> = edge.fake.calls().iter().map(|s| s.json()["idempotencyKey"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys[..4], ["abc", "abc", "k", "mine"]);
    assert_eq!(Uuid::parse_str(&keys[4]).unwrap().get_version_num(), 7);

    for headers in [
        vec![("idempotency-key", "other")],
        vec![("idempotency-key", "k"), ("idempotency-key", "k")],
        vec![("idempotency-key", "")],
    ] {
        let headers: Vec<_> = headers.into_iter().chain([auth]).collect();
        let answer = edge.http(Method::POST, "/api/v1/orders", &headers, r#"{"idempotencyKey":"k"}"#).await;
        assert_eq!(answer.status, 400, "{headers:?}");
        answer.problem();
    }
    assert!(edge.fake.calls().is_empty());
}

#[tokio::test]
async fn a_services_refusal_becomes_a_problem_with_its_details() {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt};
    let edge = edge().await;
    edge.fake.respond(|_| {
        let mut details = ErrorDetails::with_bad_request_violation("lines[0].quantity", "must be 1 to 1,000");
        details.set_error_info("PRODUCT_UNKNOWN", "shop", [("product_id".to_owned(), "p1".to_owned())]);
        Err(Status::with_error_details(Code::FailedPrecondition, "no such product", details))
    });
    let problem = edge.post("/api/v1/orders", Some(&user()), ORDER).await.problem();
    assert_eq!(
        (&problem["status"], &problem["code"], &problem["detail"]),
        (&json!(400), &json!("FAILED_PRECONDITION"), &json!("no such product"))
    );
    assert_eq!(problem["errors"], json!([{"field": "lines[0].quantity", "description": "must be 1 to 1,000"}]));
    assert_eq!(problem["details"][0]["reason"], "PRODUCT_UNKNOWN");
    for (code, status) in [(Code::NotFound, 404), (Code::AlreadyExists, 409), (Code::Unavailable, 503), (Code::Internal, 500)] {
        edge.fake.respond(move |_| Err(Status::new(code, "10.0.0.7 at src/db.rs")));
        let answer = edge.get("/api/v1/orders/o1", Some(&user())).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.problem()["detail"] == "10.0.0.7 at src/db.rs", status < 500);
    }
}

#[tokio::test]
async fn tokens_are_verified_with_the_keys_that_the_contracts_publish() {
    let fake = Fake::default();
    let keys = serde_json::to_value(jwks()).unwrap();
    fake.respond(move |seen| if seen.uri.ends_with("GetJwks") { Ok(keys.clone()) } else { Ok(json!({})) });
    let builder = Gateway::builder(policies(), fake.clone()).descriptors(contracts::DESCRIPTORS);
    let edge = serve(builder, fake).await;
    assert_eq!(edge.get("/api/v1/orders", Some(&user())).await.status, 200);
    assert_eq!(edge.get("/.well-known/jwks.json", None).await.json(), serde_json::to_value(jwks()).unwrap());
    let asked: Vec<_> = edge.fake.calls().iter().map(|s| s.uri.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(asked, ["GetJwks", "ListOrders", "GetJwks"]);
}

#[tokio::test]
async fn a_service_that_does_not_answer_costs_a_504_and_no_more() {
    let limits = sinew_gateway::Limits { call: std::time::Duration::from_millis(50), ..Default::default() };
    let edge = edge_with(|b| b.limits(limits)).await;
    edge.fake.respond(|_| Err(tonic::Status::deadline_exceeded("late")));
    assert_eq!(edge.get("/api/v1/products", None).await.status, 504);
    edge.fake.respond(|_| panic!("a bug of ours"));
    let answer = edge.get("/api/v1/products", None).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (500, Some("INTERNAL")));
    assert!(!String::from_utf8_lossy(&answer.body).contains("bug"));
}

#[tokio::test]
async fn probes_answer_without_token_and_readiness_names_what_is_missing() {
    let readiness = sinew::Readiness::default();
    let gate = readiness.gate("registry");
    let edge = edge_with(|b| b.readiness(readiness)).await;
    assert_eq!(edge.get("/healthz", None).await.status, 200);
    let answer = edge.get("/readyz", None).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (503, &b"not ready: registry\n"[..]));
    gate.open();
    assert_eq!(edge.get("/readyz", Some("Bearer junk")).await.status, 200);
    assert_eq!(edge.post("/readyz", None, "").await.header("allow"), Some("GET"));
}

#[tokio::test]
async fn browsers_may_call_from_named_origins_only() {
    let settings = sinew_gateway::GatewaySettings {
        origins: vec!["https://shop.example".parse().unwrap()],
        ..sinew_gateway::GatewaySettings::default()
    };
    let edge = edge_with(|b| b.settings(&settings)).await;
    for (origin, allowed) in [("https://shop.example", Some("https://shop.example")), ("https://evil.example", None)] {
        let preflight = [("origin", origin), ("access-control-request-method", "POST")];
        let answer = edge.http(Method::OPTIONS, "/api/v1/orders", &preflight, "").await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
    }
}
