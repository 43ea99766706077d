//! What the shop's contracts do not use: further bindings, bodies that are a field, patterns; and contracts that are
//! wrong.

use crate::harness::{Answer, Edge, Fake, jwks, serve};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use sinew::{FixedKeys, TokenRules, Verifier};
use sinew_core::{
    Access, BoxFuture, Idempotency, MethodKind, Policies, ServiceName,
    classify::Code,
    policy::{self, GrpcService, ServicePolicy},
    stats::{CallKey, Registry, Side},
};
use sinew_gateway::{Backend, BuildError, Builder, Classes, Gateway, GatewaySettings};
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tonic::{Status, body::Body};

/// Answers with the request: every rpc here gives back what it gets.
#[derive(Debug, Clone)]
struct Mirror;

impl Backend for Mirror {
    fn call(&self, _: &ServiceName, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        Box::pin(async move { Ok(crate::harness::grpc_answer(request.into_body().collect().await?.to_bytes())) })
    }
}

/// Compiles rpcs of one service over one message.
fn contract(rpcs: &str) -> &'static [u8] {
    let proto = format!(
        r#"syntax = "proto3"; package t; import "google/api/annotations.proto"; import "google/protobuf/timestamp.proto";
        enum Colour {{ COLOUR_UNSPECIFIED = 0; COLOUR_RED = 1; }}
        message Inner {{ string id = 1; int64 big = 2; repeated string tags = 3; }}
        message M {{
          string name = 1; Inner inner = 2; int32 n = 3; bool yes = 4; Colour colour = 5; bytes raw = 6; double d = 7;
          google.protobuf.Timestamp at = 8; repeated int32 many = 9; map<string, string> map = 10; uint64 u = 11;
        }}
        service S {{ {rpcs} }}"#
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.proto"), proto).unwrap();
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut compiler = protox::Compiler::new([folder.path(), &shared]).unwrap();
    compiler.include_imports(true).open_file("t.proto").unwrap();
    compiler.encode_file_descriptor_set().leak()
}

fn builder(rpcs: &str) -> Builder {
    let descriptors = contract(rpcs);
    let service = DescriptorPool::decode(descriptors).unwrap().get_service_by_name("t.S").unwrap();
    let methods: Vec<_> = service
        .methods()
        .map(|m| policy::Method {
            path: format!("/t.S/{}", m.name()).leak(),
            kind: if m.is_server_streaming() { MethodKind::ServerStreaming } else { MethodKind::Unary },
            idempotency: Idempotency::Unknown,
            access: Access::Public,
        })
        .collect();
    let services = vec![GrpcService { name: "t.S", methods: methods.leak() }].leak();
    let policies = Policies::resolve(&[ServicePolicy { name: "t", services, service_config: "{}" }]).unwrap();
    let verifier = Arc::new(Verifier::new(Arc::new(FixedKeys(jwks())), &TokenRules::default()));
    let unlimited =
        GatewaySettings { classes: Classes { anonymous: None, user: None, admin: None, load: None }, ..GatewaySettings::default() };
    Gateway::builder(Arc::new(policies), Mirror).descriptors(descriptors).verifier(verifier).settings(&unlimited)
}

async fn edge(rpcs: &str) -> Edge {
    serve(builder(rpcs), Fake::default()).await
}

/// What the service was sent, zero values left out.
fn sent(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let pool = DescriptorPool::decode(contract("")).unwrap();
    let message = pool.get_message_by_name("t.M").unwrap();
    let message = DynamicMessage::deserialize(message, answer.json()).unwrap();
    let _ = message.encoded_len();
    serde_json::to_value(&message).unwrap()
}

#[tokio::test]
async fn every_kind_of_field_is_read_from_the_query() {
    let edge = edge(r#"rpc A(M) returns (M) { option (google.api.http) = {get: "/a"}; }"#).await;
    let query = "/a?n=-3&yes=true&colour=COLOUR_RED&raw=_-8&d=1.5&at=2026-01-02T03:04:05Z&many=1&many=2&inner.big=9&inner.tags=x&inner.tags=y&u=18446744073709551615";
    let expected = json!({
        "n": -3, "yes": true, "colour": "COLOUR_RED", "raw": "/+8=", "d": 1.5, "at": "2026-01-02T03:04:05Z", "many": [1, 2],
        "inner": {"big": "9", "tags": ["x", "y"]}, "u": "18446744073709551615",
    });
    assert_eq!(sent(&edge.get(query, None).await), expected);
    assert_eq!(sent(&edge.get("/a?colour=1&n=5", None).await), json!({"colour": "COLOUR_RED", "n": 5}));
    for bad in [
        "yes=1",
        "colour=COLOUR_BLUE",
        "colour=9",
        "raw=***",
        "d=x",
        "at=yesterday",
        "inner=x",
        "map=x",
        "map.a=x",
        "many.x=1",
        "u=-1",
        "inner.=1",
        "=",
    ] {
        let answer = edge.get(&format!("/a?{bad}"), None).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.problem()["errors"][0]["description"].is_string(), "{bad}");
    }
}

#[tokio::test]
async fn a_body_may_be_one_field_and_an_answer_too() {
    let edge = edge(
        r#"rpc A(M) returns (M) { option (google.api.http) = {
            put: "/a/{name}" body: "inner"
            additional_bindings { post: "/b/{inner.id}:do" body: "*" }
            additional_bindings { get: "/c/{name=x/**}" }
            additional_bindings { custom { kind: "REPORT" path: "/d" } response_body: "inner" }
        }; }"#,
    )
    .await;
    let put = edge.http(Method::PUT, "/a/nn?n=4", &[], r#"{"big":"7"}"#).await;
    assert_eq!(sent(&put), json!({"name": "nn", "n": 4, "inner": {"big": "7"}}));
    let bad = edge.http(Method::PUT, "/a/nn", &[], r#"{"big":"x"}"#).await;
    assert_eq!(bad.problem()["errors"][0]["field"], "inner.big");
    // The field's body cannot reach its neighbours.
    for smuggled in [r#"{"name":"other"}"#, r#"{},"name":"other""#] {
        assert_eq!(edge.http(Method::PUT, "/a/nn", &[], smuggled).await.status, 400);
    }
    assert_eq!(edge.http(Method::PUT, "/a/nn?inner.big=1", &[], "{}").await.status, 400);
    let post = edge.post("/b/i1:do", None, r#"{"inner":{"big":"1"},"n":2}"#).await;
    assert_eq!(sent(&post), json!({"inner": {"id": "i1", "big": "1"}, "n": 2}));
    assert_eq!(sent(&edge.get("/c/x/y/z", None).await), json!({"name": "x/y/z"}));
    let report = edge.http("REPORT".parse().unwrap(), "/d?inner.id=i", &[], "").await;
    assert_eq!(report.json(), json!({"id": "i", "big": "0", "tags": []}));
}

#[tokio::test]
async fn every_call_is_counted_once_with_how_it_ended() {
    let edge = edge(r#"rpc Counted(M) returns (M) { option (google.api.http) = {get: "/counted"}; }"#).await;
    assert_eq!(edge.get("/counted", None).await.status, 200);
    assert_eq!(edge.get("/counted?nope=1", None).await.status, 400);
    let (status, ..) = edge.grpc("/t.S/Counted", &[], b"").await;
    assert_eq!(status.code(), tonic::Code::Ok);
    let key = CallKey { side: Side::Server, service: "gateway".into(), method: "/t.S/Counted".into() };
    let stats = Registry::global().calls(key);
    // A stream's record is made when its body is dropped, which may be after the client has read it.
    let settled = async {
        while stats.in_flight.load(Relaxed) != 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), settled).await.expect("no call is under way");
    let counts = [Code::Ok, Code::InvalidArgument, Code::Cancelled, Code::Unknown].map(|code| stats.count(code));
    assert_eq!(counts, [2, 1, 0, 0]);
}

/// The whole chain, as a person sees it.
fn told(error: &BuildError) -> String {
    let source = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
    format!("{error}{source}")
}

#[test]
fn contracts_that_are_wrong_are_refused_by_name_when_the_gateway_is_built() {
    let one = |rule: &str| format!("rpc A(M) returns (M) {{ option (google.api.http) = {{{rule}}}; }}");
    for (rpcs, expected) in [
        (one(r#"get: "/a/{colour.x}""#), "no field colour.x"),
        (one(r#"get: "/a/{inner}""#), "inner cannot be in a path"),
        (one(r#"get: "/a/{many}""#), "many cannot be in a path"),
        (one(r#"get: "a""#), "must begin with '/'"),
        (one(r#"get: "/a" body: "*""#), "GET has no body"),
        (one(r#"post: "/a" body: "name""#), "the body must be '*' or a message"),
        (one(r#"post: "/a" body: "nope""#), "no field nope"),
        (one(r#"get: "/a" response_body: "nope""#), "no field nope in the response"),
        (one(r#"body: "*""#), "names no HTTP method"),
        (r#"rpc A(M) returns (stream M) { option (google.api.http) = {get: "/a"}; }"#.to_owned(), "only unary"),
    ] {
        let error = told(&builder(&rpcs).build().expect_err(&rpcs));
        assert!(error.contains("/t.S/A") && error.contains(expected), "{rpcs}: {error}");
    }
    let two = r#"rpc A(M) returns (M) { option (google.api.http) = {get: "/a/{name}"}; }
                 rpc B(M) returns (M) { option (google.api.http) = {get: "/a/{inner.id}"}; }"#;
    let error = told(&builder(two).build().expect_err("conflict"));
    assert_eq!(error, "/t.S/A and /t.S/B both claim GET /a/{inner.id}");
}

#[test]
fn a_gateway_that_could_verify_no_token_is_refused() {
    let policies = Arc::new(Policies::resolve(&contracts::POLICIES[..1]).unwrap());
    let error = Gateway::builder(policies, Mirror).descriptors(contracts::DESCRIPTORS).build().expect_err("no keys");
    assert!(error.to_string().contains("SINEW_JWKS"), "{error}");
}
