//! What happens to calls: panics, deadlines, limits, metadata.

use crate::harness::{GET_INFO, LIMIT, config, start};
use sinew_core::stats::{CallKey, Registry, Side};
use sinew_proto::{
    admin::v1::{GetInfoRequest, admin_service_client::AdminServiceClient},
    events::v1::{SubscribeRequest, events_service_client::EventsServiceClient},
};
use std::sync::atomic::Ordering::SeqCst;
use tokio::time::timeout;
use tonic::{Code, Request};

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

#[tokio::test]
async fn a_deadline_ends_the_handler_and_reaches_what_it_calls() {
    let server = start(config()).await;
    let call = server.bare(&[("do", "wait"), ("grpc-timeout", "50m"), ("grpc-previous-rpc-attempts", "2")]).await;
    assert_eq!(call.headers().await["grpc-status"], (Code::DeadlineExceeded as i32).to_string());
    server.eventually("the handler is dropped", || server.handlers.dropped.load(SeqCst) == 1).await;
    let context = server.handlers.context.lock().unwrap().clone();
    assert!(context.deadline.is_some());
    assert_eq!(context.attempt, 2);
}

#[tokio::test]
async fn a_deadline_ends_a_stream_too_and_reaches_what_it_calls() {
    let server = start(config()).await;
    let mut client = EventsServiceClient::new(server.channel().await);
    let mut request = Request::new(SubscribeRequest::default());
    request.metadata_mut().insert("grpc-timeout", "200m".parse().unwrap());
    let mut stream = client.subscribe(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some() && stream.message().await.unwrap().is_some());
    assert!(server.handlers.context.lock().unwrap().deadline.is_some(), "polled within the call's context");
    let status = timeout(LIMIT, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_that_panics_ends_with_internal() {
    let server = start(config()).await;
    let channel = server.channel().await;
    let mut request = Request::new(SubscribeRequest::default());
    request.metadata_mut().insert("panic", "yes".parse().unwrap());
    let mut stream = EventsServiceClient::new(channel.clone()).subscribe(request).await.unwrap().into_inner();
    let status = loop {
        match timeout(LIMIT, stream.message()).await.unwrap() {
            Ok(message) => assert!(message.is_some(), "the stream ended as if all were well"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), status.message()), (Code::Internal, "the handler failed"));
    AdminServiceClient::new(channel).get_info(GetInfoRequest {}).await.expect("the same connection goes on");
}

#[tokio::test]
async fn a_call_that_comes_too_late_reaches_no_handler() {
    let server = start(config()).await;
    let call = server.bare(&[("do", "nothing"), ("grpc-timeout", "0m")]).await;
    assert_eq!(call.headers().await["grpc-status"], (Code::DeadlineExceeded as i32).to_string());
    assert!(server.handlers.context.lock().unwrap().deadline.is_none(), "no handler has seen it");
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
