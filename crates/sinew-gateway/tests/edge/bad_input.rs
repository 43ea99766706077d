//! Every kind of bad input: its status, its problem, and no call behind the gateway.

use crate::harness::{Edge, edge, edge_with, user};
use bytes::Bytes;
use http::Method;
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::json;
use sinew_gateway::Limits;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A POST of an order that must fail with 400.
async fn refused(edge: &Edge, body: impl Into<Bytes>) -> serde_json::Value {
    let body = body.into();
    let answer = edge.post("/api/v1/orders", Some(&user()), body.clone()).await;
    assert_eq!(answer.status, 400, "{body:?}: {answer:?}");
    let problem = answer.problem();
    assert_eq!(problem["code"], "INVALID_ARGUMENT");
    assert!(edge.fake.calls().is_empty(), "{body:?} got through");
    problem
}

#[tokio::test]
async fn what_is_no_json_of_the_contract_is_400_and_says_where() {
    let edge = edge().await;
    for syntax in ["{", "{\"lines\":", "{]", "nope", "{} {}", "{\"paymentToken\":\"a\"b}", "{'lines':[]}", "\u{feff}{}"] {
        let problem = refused(&edge, syntax).await;
        assert!(problem["detail"].as_str().unwrap().contains("no JSON"), "{problem}");
    }
    for (body, field) in [
        (json!({"lines": [{"quantity": "many"}]}), "lines[0].quantity"),
        (json!({"lines": [{"quantity": 1}, {"quantity": 1.5}]}), "lines[1].quantity"),
        (json!({"lines": [{"quantity": "9223372036854775808"}]}), "lines[0].quantity"),
        (json!({"lines": [{"quantity": true}]}), "lines[0].quantity"),
        (json!({"lines": "none"}), "lines"),
        (json!({"paymentToken": 7}), "paymentToken"),
        (json!({"lines": [{"colour": "red"}]}), "lines[0]"),
    ] {
        let problem = refused(&edge, body.to_string()).await;
        assert!(problem["errors"][0]["field"].as_str().unwrap().starts_with(field), "{body}: {problem}");
    }
    assert!(refused(&edge, r#"{"surprise":1}"#).await["detail"].as_str().unwrap().contains("surprise"));
    refused(&edge, "[]").await;
    refused(&edge, "[}").await;
    refused(&edge, "null").await;
    refused(&edge, format!("{{\"lines\":[{{\"quantity\":{}}}]}}", "9".repeat(100_000))).await;
    refused(&edge, r#"{"lines":[{"quantity":1e999}]}"#).await;
    refused(&edge, &b"{\"paymentToken\":\"\xff\xfe\"}"[..]).await;
    refused(&edge, r#"{"paymentToken":"\ud800"}"#).await;
}

#[tokio::test]
async fn deep_nesting_is_refused_before_it_is_parsed() {
    let edge = edge().await;
    for open in ["[", "{\"a\":"] {
        let problem = refused(&edge, open.repeat(150_000)).await;
        assert!(problem["detail"].as_str().unwrap().contains("deeper"), "{problem}");
    }
}

#[tokio::test]
async fn paths_queries_and_bodies_must_agree_with_the_contract() {
    let edge = edge().await;
    let token = user();
    for (path, field) in [
        ("/api/v1/orders?page_size=many", "page_size"),
        ("/api/v1/orders?page_size=99999999999", "page_size"),
        ("/api/v1/orders?page_size=%2B1", "page_size"),
        ("/api/v1/orders?page_size=1&page_size=2", "page_size"),
        ("/api/v1/orders?colour=red", "colour"),
        ("/api/v1/orders/o1?order_id=o2", "order_id"),
        ("/api/v1/orders/o1?orderId=o1", "orderId"),
    ] {
        let answer = edge.get(path, Some(&token)).await;
        assert_eq!((answer.status.as_u16(), &answer.problem()["errors"][0]["field"]), (400, &json!(field)), "{path}");
    }
    for path in ["/api/v1/orders/%ff", "/api/v1/orders/%zz", "/api/v1/orders?user_id=%ff"] {
        assert_eq!(edge.get(path, Some(&token)).await.problem()["status"], 400, "{path}");
    }
    let differs = edge.post("/api/v1/orders/o1:cancel", Some(&token), r#"{"orderId":"o2"}"#).await;
    assert_eq!(differs.problem()["errors"][0]["field"], "orderId");
    let query = edge.post("/api/v1/orders/o1:cancel?order_id=o1", Some(&token), "{}").await;
    assert_eq!(query.problem()["status"], 400);
    assert!(edge.fake.calls().is_empty());
    let same = edge.post("/api/v1/orders/o1:cancel", Some(&token), r#"{"orderId":"o1"}"#).await;
    assert_eq!(same.status, 200);
}

#[tokio::test]
async fn other_kinds_of_body_are_415_and_larger_ones_413() {
    let edge = edge_with(|b| b.limits(Limits { body_bytes: 1000, ..Limits::default() })).await;
    let token = user();
    let auth = ("authorization", token.as_str());
    for headers in [
        vec![("content-type", "text/plain")],
        vec![("content-type", "application/jsonp")],
        vec![("content-type", "application/json; charset=latin1")],
        vec![("content-type", "application/grpc-web+proto")],
        vec![("content-type", "application/json"), ("content-type", "text/plain")],
        vec![("content-encoding", "gzip")],
    ] {
        let headers: Vec<_> = headers.into_iter().chain([auth]).collect();
        let answer = edge.http(Method::POST, "/api/v1/orders", &headers, "{}").await;
        assert_eq!(answer.status, 415, "{headers:?}");
        answer.problem();
    }
    let ok = edge.http(Method::POST, "/api/v1/orders", &[auth, ("content-type", "Application/JSON; charset=UTF-8")], "{}").await;
    assert_eq!(ok.status, 200);
    let large = edge.post("/api/v1/orders", Some(&token), "x".repeat(1001)).await;
    assert_eq!(large.problem()["status"], 413);
    assert_eq!(edge.fake.calls().len(), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_at_the_limit_and_at_its_time() {
    let limits = Limits { body_bytes: 1000, body: Duration::from_millis(100), ..Limits::default() };
    let edge = edge_with(|b| b.limits(limits)).await;
    let head = "POST /api/v1/users HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    for (chunk, status) in [(format!("7d0\r\n{}\r\n", "x".repeat(2000)), "413"), ("1\r\n{\r\n".to_owned(), "408")] {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(chunk.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.expect("an answer").unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), format!("HTTP/1.1 {status}"));
    }
    assert!(edge.fake.calls().is_empty());
}

#[tokio::test]
async fn unknown_routes_are_404_and_wrong_methods_405_with_what_is_allowed() {
    let edge = edge().await;
    for path in [
        "/",
        "/api",
        "/api/v1/orders/",
        "/api/v1//orders",
        "//api/v1/orders",
        "/api/v1/nothing",
        "/api/v1/orders/a/b",
        &"/a".repeat(500),
    ] {
        let answer = edge.get(path, Some(&user())).await;
        assert_eq!((answer.status.as_u16(), &answer.problem()["code"]), (404, &json!("NOT_FOUND")), "{path}");
    }
    let answer = edge.http(Method::DELETE, "/api/v1/orders", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET, POST")));
    answer.problem();
    assert_eq!(edge.get("/api/v1/orders/o1:cancel", None).await.status, 401, "an id may hold a colon");
}

#[tokio::test]
async fn connections_that_say_nothing_whole_are_closed() {
    let limits = Limits { headers: Duration::from_millis(100), ..Limits::default() };
    let edge = edge_with(|b| b.limits(limits)).await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n", "GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{beginning:?} still open");
    }
    assert_eq!(edge.get("/healthz", None).await.status, 200);
}

/// Whatever the bytes: an answer under 500, and a problem unless it is a success.
#[test]
fn no_bytes_make_it_fail() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let edge = runtime.block_on(edge());
    let json = "[{}\\[\\]\",:a-c0-9eE.+\\-\\\\u]{0,64}|\\{\"(lines|paymentToken|idempotencyKey)\":[\\[\\]{}\"0-9a-z:,]{0,24}\\}";
    let query = "[a-z_=&%0-9.+]{0,32}";
    let mut runner = TestRunner::new(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() });
    let result = runner.run(&(json, query), |(body, query)| {
        runtime.block_on(async {
            let post = edge.post("/api/v1/orders", Some(&user()), body).await;
            let get = edge.get(&format!("/api/v1/orders?{query}"), Some(&user())).await;
            for answer in [post, get] {
                prop_assert!(answer.status.as_u16() < 500, "{:?}", answer);
                if !answer.status.is_success() {
                    answer.problem();
                }
            }
            Ok(())
        })
    });
    result.unwrap();
}
