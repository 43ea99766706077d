//! What happens to calls: panics, deadlines, limits, metadata.

use crate::harness::{LIMIT, config, start};
use sinew_core::stats::{CallKey, Registry, Side};
use sinew_proto::{
    admin::v1::{GetInfoRequest, admin_service_client::AdminServiceClient},
    events::v1::{SubscribeRequest, events_service_client::EventsServiceClient},
};
use std::{sync::atomic::Ordering::SeqCst, time::Duration};
use tokio::time::timeout;
use tonic::{Code, Request};

const GET_INFO: &str = "/sinew.admin.v1.AdminService/GetInfo";

fn asking(what: &'static str) -> Request<GetInfoRequest> {
    let mut request = Request::new(GetInfoRequest {});
    request.metadata_mut().insert("do", what.parse().unwrap());
    request
}

#[tokio::test]
async fn a_panic_costs_its_own_call_only() {
    let server = start(config()).await;
    let mut client = AdminServiceClient::new(server.channel().await);
    let waiting = tokio::spawn({
        let mut client = client.clone();
        async move { client.get_info(asking("wait")).await }
    });
    server.eventually("the other call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    let status = client.get_info(asking("panic")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "the handler failed"));
    server.handlers.let_go.notify_one();
    waiting.await.unwrap().unwrap();
    client.get_info(GetInfoRequest {}).await.unwrap();
}

/// tonic's channel keeps the deadline itself, so this one is asked by a client that does not.
#[tokio::test]
async fn a_deadline_ends_the_handler_and_reaches_what_it_calls() {
    let server = start(config()).await;
    let io = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(io).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("http://test{GET_INFO}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("do", "wait")
        .header("grpc-timeout", "50m")
        .header("grpc-previous-rpc-attempts", "2");
    let (answer, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(bytes::Bytes::from_static(&[0; 5]), true).unwrap();
    let answer = timeout(LIMIT, answer).await.expect("in time").unwrap();
    assert_eq!(answer.headers()["grpc-status"], (Code::DeadlineExceeded as i32).to_string());
    server.eventually("the handler is dropped", || server.handlers.dropped.load(SeqCst) == 1).await;
    let context = server.handlers.context.lock().unwrap().clone();
    assert!(context.deadline.is_some());
    assert_eq!(context.attempt, 2);
    driver.abort();
}

#[tokio::test]
async fn a_deadline_ends_a_stream_too() {
    let server = start(config()).await;
    let mut client = EventsServiceClient::new(server.channel().await);
    let mut request = Request::new(SubscribeRequest::default());
    request.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let mut stream = client.subscribe(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let status = timeout(LIMIT, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let server = start(config()).await;
    let mut request = asking("nothing");
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = AdminServiceClient::new(server.channel().await).get_info(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_handler_along() {
    let server = start(config()).await;
    let mut client = AdminServiceClient::new(server.channel().await);
    let call = tokio::spawn(async move { client.get_info(asking("wait")).await });
    server.eventually("the call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    call.abort();
    server.eventually("the handler is dropped", || server.handlers.dropped.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn past_the_limit_calls_are_refused_with_a_hint() {
    let mut config = config();
    config.limits.calls = 1;
    let server = start(config).await;
    let mut client = AdminServiceClient::new(server.channel().await);
    let first = tokio::spawn({
        let mut client = client.clone();
        async move { client.get_info(asking("wait")).await }
    });
    server.eventually("the first call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    let status = client.get_info(GetInfoRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").map(|v| v.as_bytes()), Some(&b"100"[..]));
    server.handlers.let_go.notify_one();
    first.await.unwrap().unwrap();
    client.get_info(GetInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn every_call_is_counted_with_its_code() {
    let server = start(config()).await;
    let stats = Registry::global().calls(CallKey { side: Side::Server, service: "test".into(), method: GET_INFO.into() });
    let counts = || (stats.count(sinew_core::classify::Code::Ok), stats.count(sinew_core::classify::Code::Internal));
    let before = counts();
    let mut client = AdminServiceClient::new(server.channel().await);
    client.get_info(GetInfoRequest {}).await.unwrap();
    client.get_info(asking("panic")).await.unwrap_err();
    // Tests of this process share the registry, so at least.
    server.eventually("both are counted", || counts().0 > before.0 && counts().1 > before.1).await;
}

#[tokio::test]
async fn silent_connections_are_closed() {
    use tokio::io::AsyncReadExt;
    let mut config = config();
    config.limits.preface = Duration::from_millis(50);
    let server = start(config).await;
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    // The server's own SETTINGS may come first; then the end.
    let mut bytes = Vec::new();
    let end = timeout(LIMIT, silent.read_to_end(&mut bytes)).await.expect("closed in time");
    assert!(end.is_ok() || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    AdminServiceClient::new(server.channel().await).get_info(GetInfoRequest {}).await.unwrap();
}
