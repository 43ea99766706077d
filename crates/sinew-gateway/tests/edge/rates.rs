//! Who may call how often, and what the answers say about it.

use crate::harness::{admin, edge_with, token};
use http::Method;
use sinew_core::BoxFuture;
use sinew_gateway::{Classes, GatewaySettings, Quota, RateError, RateKey, RateStore, Verdict};
use std::sync::Arc;
use tonic::Code;
use tonic_types::StatusExt;

fn settings(proxies: &[&str]) -> GatewaySettings {
    let quota = |burst| Quota::new(1, burst);
    GatewaySettings {
        classes: Classes { anonymous: quota(2), user: quota(3), admin: None, load: quota(5) },
        proxies: proxies.iter().map(|p| p.parse().unwrap()).collect(),
        ..GatewaySettings::default()
    }
}

#[tokio::test]
async fn over_the_limit_is_429_with_when_to_come_back() {
    let edge = edge_with(|b| b.settings(&settings(&[]))).await;
    let first = edge.get("/api/v1/products", None).await;
    assert_eq!((first.header("ratelimit-limit"), first.header("ratelimit-remaining")), (Some("2"), Some("1")));
    assert_eq!(first.header("ratelimit-reset"), Some("1"));
    // Unknown paths count as well, or scanning would be free.
    assert_eq!(edge.get("/nothing", None).await.status, 404);
    let over = edge.get("/api/v1/products", None).await;
    assert_eq!((over.status.as_u16(), over.header("retry-after"), over.header("ratelimit-remaining")), (429, Some("1"), Some("0")));
    assert_eq!(over.problem()["code"], "RESOURCE_EXHAUSTED");
    assert_eq!(edge.fake.calls().len(), 1);

    let (status, headers, _) = edge.grpc("/shop.product.v1.ProductService/ListProducts", &[], b"").await;
    assert_eq!((status.code(), &headers["ratelimit-limit"]), (Code::ResourceExhausted, &http::HeaderValue::from_static("2")));
    assert!(status.get_details_retry_info().is_some_and(|r| r.retry_delay.is_some()));
    assert_eq!(edge.get("/healthz", None).await.status, 200, "probes are free");
}

#[tokio::test]
async fn subjects_have_quotas_of_their_own_and_administrators_another_class() {
    let edge = edge_with(|b| b.settings(&settings(&[]))).await;
    let status = async |token: &str| edge.get("/api/v1/products", Some(token)).await.status.as_u16();
    let (one, two) = (token("u1", "customer"), token("u2", "customer"));
    assert_eq!([status(&one).await, status(&one).await, status(&one).await, status(&one).await], [200, 200, 200, 429]);
    assert_eq!(status(&two).await, 200);
    for _ in 0..10 {
        assert_eq!(status(&admin()).await, 200);
    }
    // A bad token is its address's, however many subjects it claims.
    assert_eq!([status("Bearer a").await, status("Bearer b").await, status("Bearer c").await], [401, 401, 429]);
}

#[tokio::test]
async fn addresses_behind_a_trusted_proxy_are_told_apart_and_others_are_not_believed() {
    for (proxies, expected) in [(vec!["127.0.0.0/8"], [200, 200, 200, 200]), (vec![], [200, 200, 429, 429])] {
        let edge = edge_with(|b| b.settings(&settings(&proxies))).await;
        for (n, expected) in expected.into_iter().enumerate() {
            let forwarded = format!("203.0.113.{n}");
            let answer = edge.http(Method::GET, "/api/v1/products", &[("x-forwarded-for", &forwarded)], "").await;
            assert_eq!(answer.status, expected, "{proxies:?}, call {n}");
        }
    }
}

#[derive(Debug)]
struct Gone;

impl RateStore for Gone {
    fn take<'a>(&'a self, _: &'a RateKey, _: Quota) -> BoxFuture<'a, Result<Verdict, RateError>> {
        Box::pin(async { Err(RateError("connection refused".into())) })
    }
}

#[tokio::test]
async fn a_store_that_is_gone_stops_nobody() {
    let edge = edge_with(|b| b.settings(&settings(&[])).rate_store(Arc::new(Gone))).await;
    for _ in 0..5 {
        let answer = edge.get("/api/v1/products", None).await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit-limit")), (200, None));
    }
}

#[tokio::test]
async fn who_shows_the_load_key_is_in_a_class_of_its_own_and_no_service_sees_it() {
    let key = "0123456789abcdef0123456789abcdef";
    let settings = GatewaySettings { load_key: Some(key.parse().unwrap()), ..settings(&[]) };
    let edge = edge_with(|b| b.settings(&settings)).await;
    let limit = async |shown: &str| {
        let headers = [("x-sinew-load-key", shown)];
        let answer = edge.http(Method::GET, "/api/v1/products", &headers, "").await;
        answer.header("ratelimit-limit").map(str::to_owned)
    };
    assert_eq!(limit(key).await.as_deref(), Some("5"));
    assert_eq!(limit("0123456789abcdef0123456789abcdeX").await.as_deref(), Some("2"));
    assert!(edge.fake.calls().iter().all(|call| !call.headers.contains_key("x-sinew-load-key")));
}
