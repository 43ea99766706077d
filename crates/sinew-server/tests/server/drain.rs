//! The end of a server: in order, bounded, and without a call lost.

use crate::harness::{FakeRegistry, LIMIT, config, launch, start};
use sinew_core::Standing;
use sinew_proto::{
    admin::v1::{GetInfoRequest, admin_service_client::AdminServiceClient},
    events::v1::{SubscribeRequest, events_service_client::EventsServiceClient},
};
use std::{sync::atomic::Ordering::SeqCst, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

#[tokio::test]
async fn the_end_is_in_order_and_loses_no_call() {
    let server = start(config()).await;
    let mut client = AdminServiceClient::new(server.channel().await);
    let call = tokio::spawn({
        let mut client = client.clone();
        async move {
            let mut request = Request::new(GetInfoRequest {});
            request.metadata_mut().insert("do", "wait".parse().unwrap());
            client.get_info(request).await
        }
    });
    server.eventually("the call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    server.shutdown.notify_one();
    server.eventually("left the registry", || server.log().len() == 2).await;
    // Whoever still has us in his list is answered until GOAWAY; the call under way finishes.
    server.handlers.let_go.notify_one();
    call.await.unwrap().unwrap();
    let registry = server.registry.clone();
    server.ended().await.unwrap();
    assert_eq!(*registry.log.lock().unwrap(), ["register", "drain", "withdraw"]);
    assert!(client.get_info(GetInfoRequest {}).await.is_err());
}

#[tokio::test]
async fn calls_that_do_not_end_are_cut_off() {
    let mut config = config();
    config.limits.drain = Duration::from_millis(50);
    let server = start(config).await;
    let mut client = AdminServiceClient::new(server.channel().await);
    let call = tokio::spawn(async move {
        let mut request = Request::new(GetInfoRequest {});
        request.metadata_mut().insert("do", "wait".parse().unwrap());
        client.get_info(request).await
    });
    server.eventually("the call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    server.shutdown.notify_one();
    server.ended().await.expect("the drain is bounded");
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn endless_streams_end_and_hold_up_nothing() {
    let mut config = config();
    // Far longer than this test waits.
    config.limits.drain = LIMIT * 10;
    let server = start(config).await;
    let channel = server.channel().await;
    let watched = HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await;
    let subscribed = EventsServiceClient::new(channel).subscribe(SubscribeRequest::default()).await;
    let (mut health, mut events) = (watched.unwrap().into_inner(), subscribed.unwrap().into_inner());
    assert_eq!(health.message().await.unwrap().unwrap().status, SERVING);
    server.shutdown.notify_one();
    assert_eq!(health.message().await.unwrap().unwrap().status, NOT_SERVING);
    assert_eq!(health.message().await.unwrap_err().code(), Code::Unavailable);
    while let Ok(Some(_)) = events.message().await {}
    server.ended().await.unwrap();
}

#[tokio::test]
async fn whoever_comes_during_the_drain_is_refused_at_once() {
    let server = start(config()).await;
    let mut client = AdminServiceClient::new(server.channel().await);
    let call = tokio::spawn(async move {
        let mut request = Request::new(GetInfoRequest {});
        request.metadata_mut().insert("do", "wait".parse().unwrap());
        client.get_info(request).await
    });
    server.eventually("the call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    server.shutdown.notify_one();
    let refused = async { while TcpStream::connect(server.address).await.is_ok() {} };
    timeout(LIMIT, refused).await.expect("the port closes while the call is under way");
    server.handlers.let_go.notify_one();
    call.await.unwrap().unwrap();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_while_the_registry_is_away_is_quick_and_leaves_nothing_behind() {
    let mut config = config();
    // Longer than this test waits: it is for those whom others may know.
    config.limits.settle = LIMIT * 10;
    let server = launch(config, FakeRegistry::away(), TcpListener::bind("127.0.0.1:0").await.unwrap(), &[]);
    server.eventually("registering", || server.log() == ["register"]).await;
    server.registry.standing.send_replace(Standing::Waiting("nobody listens".into()));
    server.shutdown.notify_one();
    let registry = server.registry.clone();
    server.ended().await.unwrap();
    assert_eq!(*registry.log.lock().unwrap(), ["register", "drain", "withdraw"]);
}

#[tokio::test]
async fn a_shutdown_before_readiness_registers_nothing_and_finishes_calls() {
    let server = launch(config(), FakeRegistry::default(), TcpListener::bind("127.0.0.1:0").await.unwrap(), &["never"]);
    let mut client = AdminServiceClient::new(server.channel().await);
    let call = tokio::spawn(async move {
        let mut request = Request::new(GetInfoRequest {});
        request.metadata_mut().insert("do", "wait".parse().unwrap());
        client.get_info(request).await
    });
    server.eventually("the call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    server.shutdown.notify_one();
    let registry = server.registry.clone();
    let handlers = server.handlers.clone();
    let end = tokio::spawn(server.ended());
    handlers.let_go.notify_one();
    call.await.unwrap().unwrap();
    end.await.unwrap().unwrap();
    assert!(registry.log.lock().unwrap().is_empty());
}
