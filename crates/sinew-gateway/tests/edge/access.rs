//! All rpcs × {anonymous, user, administrator} × {REST, gRPC}, and headers that pretend to be somebody.

use crate::harness::{self, admin, edge, framed, grpc_request, token, user};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use sinew_core::{Access, policy};
use tonic::{Code, body::Body};

fn methods() -> impl Iterator<Item = &'static policy::Method> {
    contracts::POLICIES.iter().flat_map(|p| p.services).flat_map(|s| s.methods)
}

#[tokio::test]
async fn every_rpc_over_grpc_by_every_kind_of_caller() {
    let edge = edge().await;
    let mut tried = 0;
    for method in methods() {
        for (who, token) in [("nobody", None), ("user", Some(user())), ("admin", Some(admin()))] {
            let headers: Vec<_> = token.iter().map(|t| ("authorization", t.as_str())).collect();
            let (status, ..) = edge.grpc(method.path, &headers, b"").await;
            let expected = match (method.access, who) {
                (Access::Internal, _) => Code::Unimplemented,
                (Access::Public, _) | (Access::User, "user" | "admin") | (Access::Admin, "admin") => Code::Ok,
                (Access::Admin, "user") => Code::PermissionDenied,
                _ => Code::Unauthenticated,
            };
            assert_eq!(status.code(), expected, "{} by {who}", method.path);
            assert_eq!(edge.fake.calls().len(), usize::from(expected == Code::Ok), "{} by {who}", method.path);
            tried += 1;
        }
    }
    assert!(tried >= 60, "only {tried}");
}

#[tokio::test]
async fn every_rpc_over_rest_by_every_kind_of_caller() {
    let edge = edge().await;
    let mut tried = 0;
    for method in methods() {
        let descriptor = harness::method(method.path);
        let Some((verb, path)) = harness::rest(&descriptor) else { continue };
        for (who, token) in [("nobody", None), ("user", Some(user())), ("admin", Some(admin()))] {
            let headers: Vec<_> = token.iter().map(|t| ("authorization", t.as_str())).collect();
            let answer = edge.http(verb.clone(), &path, &headers, "").await;
            let expected: &[u16] = match (method.access, who) {
                (Access::Internal, _) => &[404, 405],
                (Access::Public, _) | (Access::User, "user" | "admin") | (Access::Admin, "admin") => &[200],
                (Access::Admin, "user") => &[403],
                _ => &[401],
            };
            assert!(expected.contains(&answer.status.as_u16()), "{verb} {path} by {who}: {answer:?}");
            let challenge = answer.header("www-authenticate").is_some();
            assert_eq!(challenge, answer.status == 401, "{verb} {path} by {who}");
            assert_eq!(edge.fake.calls().len(), usize::from(expected == [200]), "{verb} {path} by {who}");
            tried += 1;
        }
    }
    assert!(tried >= 45, "only {tried}");
    // No INTERNAL rpc answers at a path made of its name, either.
    for method in methods().filter(|m| m.access == Access::Internal) {
        assert_eq!(edge.post(method.path, Some(&admin()), "{}").await.status, 404);
    }
}

#[tokio::test]
async fn internal_rpcs_are_told_apart_from_none_by_nothing() {
    let edge = edge().await;
    let internal = methods().find(|m| m.access == Access::Internal).expect("there are some").path;
    let invented = format!("{internal}Never");
    for headers in [vec![], vec![("authorization", "Bearer junk")]] {
        let (one, one_headers, _) = edge.grpc(internal, &headers, b"").await;
        let (other, other_headers, _) = edge.grpc(&invented, &headers, b"").await;
        assert_eq!((one.code(), one.message()), (other.code(), other.message()));
        let names = |h: &http::HeaderMap| h.keys().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names(&one_headers), names(&other_headers));
    }
    // Nor in other spellings.
    for path in [internal.to_lowercase(), format!("/{internal}"), format!("{internal}/"), internal.replace('.', "%2E")] {
        let (status, ..) = edge.grpc(&path, &[], b"").await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
    assert!(edge.fake.calls().is_empty());
}

#[tokio::test]
async fn a_bad_token_is_refused_even_where_none_is_needed() {
    let edge = edge().await;
    let good = user();
    let tampered = format!("{}x", good.trim_end_matches(char::is_alphanumeric));
    for bad in ["Bearer junk", "Basic dTpw", "Bearer", "", &tampered] {
        let answer = edge.get("/api/v1/products", Some(bad)).await;
        assert_eq!((answer.status.as_u16(), &answer.problem()["code"]), (401, &"UNAUTHENTICATED".into()), "{bad:?}");
        assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"), "{bad:?}");
    }
    let twice = [("authorization", good.as_str()), ("Authorization", good.as_str())];
    assert_eq!(edge.http(Method::GET, "/api/v1/products", &twice, "").await.status, 401);
    assert_eq!(edge.get("/api/v1/orders", None).await.header("www-authenticate"), Some("Bearer realm=\"sinew\""));
    assert!(edge.fake.calls().is_empty());
    // A role that nobody knows is no token.
    assert_eq!(edge.get("/api/v1/products", Some(&token("u1", "root"))).await.status, 401);
}

/// Names by which a header could be taken for one of ours.
const FORGED: &[&str] = &[
    "x-sinew-user",
    "X-SINEW-USER",
    "x_sinew_user",
    "x-sinew_user",
    "x-sinew-user-bin",
    "x-sinew-role",
    "x-user-id",
    "x-forwarded-user",
    "x-forwarded-for",
    "forwarded",
    "x-real-ip",
    "grpc-previous-rpc-attempts",
    "grpc-tags-bin",
    "grpc-trace-bin",
    "traceparent",
    "tracestate",
    "baggage",
    "x-request-id",
    "cookie",
    "x-remote-user",
    "remote_user",
];

#[tokio::test]
async fn headers_that_pretend_reach_no_service_in_any_spelling() {
    let edge = edge().await;
    let token = user();
    let mut headers: Vec<(&str, &str)> = FORGED.iter().flat_map(|name| [(*name, "Zm9yZ2Vk"), (*name, "forged")]).collect();
    headers.push(("authorization", &token));
    let query = "/api/v1/orders?user_id=u1";
    assert_eq!(edge.http(Method::GET, query, &headers, "").await.status, 200);
    let lower: Vec<_> = headers.iter().map(|(n, v)| (n.to_lowercase(), *v)).collect();
    let lower: Vec<_> = lower.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let (status, ..) = edge.grpc("/shop.order.v1.OrderService/ListOrders?x-sinew-user=forged", &lower, b"").await;
    assert_eq!(status.code(), Code::Ok);

    let mut client = edge.http2().await.0;
    let trailers =
        http::HeaderMap::from_iter([(http::HeaderName::from_static("x-sinew-user"), http::HeaderValue::from_static("forged"))]);
    let body = Body::new(Full::new(framed(b"")).with_trailers(async move { Some(Ok(trailers)) }));
    let request = grpc_request("/shop.order.v1.OrderService/ListOrders", &[("authorization", &token)], body);
    client.send_request(request).await.unwrap().into_body().collect().await.unwrap();

    let calls = edge.fake.calls();
    assert_eq!(calls.len(), 3);
    for seen in calls {
        assert_eq!(seen.uri, "/shop.order.v1.OrderService/ListOrders");
        assert!(seen.trailers.is_none(), "{seen:?}");
        for (name, value) in &seen.headers {
            let known = ["authorization", "content-type", "te", "x-request-id", "user-agent"].contains(&name.as_str());
            assert!(known, "{name} got through");
            assert!(!Bytes::copy_from_slice(value.as_bytes()).starts_with(b"forged") && value != "Zm9yZ2Vk", "{name}={value:?}");
        }
        assert_eq!(seen.headers.get_all("authorization").iter().count(), 1);
    }
}
