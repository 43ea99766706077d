//! gRPC goes through as it comes: streamed both ways, never kept.

use crate::harness::{Fake, edge, framed, grpc_request, user};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use sinew_core::{
    Access, BoxFuture, Idempotency, MethodKind, Policies, ServiceName,
    policy::{GrpcService, Method, ServicePolicy},
};
use sinew_gateway::{Backend, Gateway, GatewaySettings};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, body::Body};

const METHODS: &[Method] = &[Method {
    path: "/sinew.events.v1.EventsService/Subscribe",
    kind: MethodKind::Bidirectional,
    idempotency: Idempotency::Unknown,
    access: Access::Public,
}];
const SERVICES: &[GrpcService] = &[GrpcService { name: "sinew.events.v1.EventsService", methods: METHODS }];
const STREAMING: &[ServicePolicy] = &[ServicePolicy { name: "events", services: SERVICES, service_config: "{}" }];

/// Few enough to open.
const MOST_CALLS: usize = 3;

type Frames = mpsc::Receiver<Result<Frame<Bytes>, Status>>;

/// A body fed by a test, frame by frame.
struct Fed(Frames, Option<Arc<AtomicUsize>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Status;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(cx)
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        if let Some(dropped) = &self.1 {
            dropped.fetch_add(1, SeqCst);
        }
    }
}

/// Answers each frame of the request with the same frame, as it comes.
#[derive(Debug, Default, Clone)]
struct Echo {
    dropped: Arc<AtomicUsize>,
}

impl Backend for Echo {
    fn call(&self, _: &ServiceName, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        let (tx, rx) = mpsc::channel(1);
        let mut body = request.into_body();
        // Ends with the request's body or with the answer's receiver.
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                if tx.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
            let ok = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            let _ = tx.send(Ok(Frame::trailers(ok))).await;
        });
        let mut response = Response::new(Body::new(Fed(rx, Some(self.dropped.clone()))));
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        Box::pin(std::future::ready(Ok(response)))
    }
}

async fn echo_edge(echo: Echo) -> crate::harness::Edge {
    let policies = Arc::new(Policies::resolve(STREAMING).unwrap());
    let keys = Arc::new(sinew::FixedKeys(crate::harness::jwks()));
    let verifier = Arc::new(sinew::Verifier::new(keys, &sinew::TokenRules::default()));
    // Short enough to wait for.
    let limits = sinew_gateway::Limits { drain: Duration::from_millis(500), calls: MOST_CALLS, ..Default::default() };
    let builder = Gateway::builder(policies, echo).descriptors(sinew_proto::DESCRIPTORS).verifier(verifier);
    crate::harness::serve(builder.settings(&GatewaySettings::default()).limits(limits), Fake::default()).await
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(5), what).await.expect("in time")
}

#[tokio::test]
async fn frames_go_by_one_at_a_time_in_both_directions() {
    let edge = echo_edge(Echo::default()).await;
    let (mut client, _driver) = edge.http2().await;
    let (feed, fed) = mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
    let request = grpc_request("/sinew.events.v1.EventsService/Subscribe", &[], Body::new(Fed(fed, None)));
    let mut answer = within(client.send_request(request)).await.unwrap().into_body();
    // Each answer comes before the next question is asked: nothing waits for an end.
    for n in 0..20u8 {
        feed.send(Ok(Frame::data(framed(&[n; 1000])))).await.unwrap();
        let mut got = Vec::new();
        while got.len() < 1005 {
            got.extend(within(answer.frame()).await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(got, framed(&[n; 1000]));
    }
    drop(feed);
    let trailers = within(answer.frame()).await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(answer.is_end_stream());
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_call_behind() {
    let echo = Echo::default();
    let edge = echo_edge(echo.clone()).await;
    let (mut client, driver) = edge.http2().await;
    let (feed, fed) = mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
    let request = grpc_request("/sinew.events.v1.EventsService/Subscribe", &[], Body::new(Fed(fed, None)));
    let answer = within(client.send_request(request)).await.unwrap();
    drop((answer, client, feed));
    driver.abort();
    within(async {
        while echo.dropped.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_drain_lets_calls_finish_and_cuts_off_those_that_do_not() {
    for finishes in [true, false] {
        let mut edge = echo_edge(Echo::default()).await;
        let (mut client, _driver) = edge.http2().await;
        let (feed, fed) = mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
        let request = grpc_request("/sinew.events.v1.EventsService/Subscribe", &[], Body::new(Fed(fed, None)));
        let mut answer = within(client.send_request(request)).await.unwrap().into_body();
        feed.send(Ok(Frame::data(framed(b"")))).await.unwrap();
        assert!(within(answer.frame()).await.unwrap().unwrap().is_data());
        edge.begin_stop();
        // Still served after the drain has begun.
        feed.send(Ok(Frame::data(framed(b"")))).await.unwrap();
        assert!(within(answer.frame()).await.unwrap().unwrap().is_data());
        if finishes {
            drop(feed);
            assert_eq!(within(answer.frame()).await.unwrap().unwrap().into_trailers().unwrap()["grpc-status"], "0");
            within(edge.stop()).await;
        } else {
            within(edge.stop()).await;
            assert!(!matches!(within(answer.frame()).await, Some(Ok(_))), "cut off");
            drop(feed);
        }
    }
}

#[tokio::test]
async fn past_the_most_calls_under_way_others_are_told_to_try_again() {
    let edge = echo_edge(Echo::default()).await;
    let (mut client, _driver) = edge.http2().await;
    let mut open = Vec::new();
    for _ in 0..MOST_CALLS {
        let (feed, fed) = mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
        let request = grpc_request("/sinew.events.v1.EventsService/Subscribe", &[], Body::new(Fed(fed, None)));
        open.push((within(client.send_request(request)).await.unwrap(), feed));
    }
    let (status, ..) = within(edge.grpc("/grpc.health.v1.Health/Check", &[], b"")).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(within(edge.get("/nothing", None)).await.status, 503);
    assert_eq!(within(edge.get("/healthz", None)).await.status, 200, "the process is well");
    open.clear();
    within(async { while edge.get("/nothing", None).await.status != 404 {} }).await;
}

#[tokio::test]
async fn messages_and_statuses_arrive_as_they_were_sent() {
    let edge = edge().await;
    edge.fake.respond(|_| Ok(serde_json::json!({"order": {"orderId": "o1"}})));
    let token = user();
    let headers = [("authorization", token.as_str()), ("grpc-timeout", "99999999H"), ("user-agent", "grpc-test/1")];
    let (status, _, message) = edge.grpc("/shop.order.v1.OrderService/GetOrder", &headers, b"\x0a\x02o1").await;
    assert_eq!((status.code(), &message[..]), (Code::Ok, &b"\x0a\x04\x0a\x02o1"[..]));
    let seen = edge.fake.calls().remove(0);
    assert_eq!((&seen.message[..], &seen.headers["grpc-timeout"]), (&b"\x0a\x02o1"[..], &http::HeaderValue::from_static("300S")));

    edge.fake.respond(|_| Err(Status::with_details(Code::NotFound, "no such order", Bytes::from_static(b"\x08\x05"))));
    let (status, ..) = edge.grpc("/shop.order.v1.OrderService/GetOrder", &headers[..1], b"").await;
    assert_eq!((status.code(), status.message(), status.details()), (Code::NotFound, "no such order", &b"\x08\x05"[..]));
    edge.fake.respond(|_| Err(Status::unavailable("10.0.0.7:4000 refused")));
    let (status, ..) = edge.grpc("/shop.order.v1.OrderService/GetOrder", &headers[..1], b"").await;
    assert!(status.code() == Code::Unavailable && !status.message().contains("10.0.0.7"), "{status:?}");
    let (status, ..) =
        edge.grpc("/shop.order.v1.OrderService/GetOrder", &[("authorization", &token), ("grpc-timeout", "soon")], b"").await;
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn grpc_over_http_1_is_refused_politely() {
    let edge = edge().await;
    let answer = edge
        .http(
            http::Method::POST,
            "/shop.product.v1.ProductService/ListProducts",
            &[("content-type", "application/grpc")],
            framed(b""),
        )
        .await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, Some("3")));
    assert!(edge.fake.calls().is_empty());
}
