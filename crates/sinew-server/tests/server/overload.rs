//! Who is let in when not everybody can be.

use crate::harness::{LIMIT, Running, config, start};
use sinew_core::{Criticality, stats::Registry};
use sinew_proto::admin::v1::{GetInfoRequest, admin_service_client::AdminServiceClient};
use sinew_server::AdaptiveConcurrency;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

fn request(what: &str, criticality: Option<&str>) -> Request<GetInfoRequest> {
    let mut request = Request::new(GetInfoRequest {});
    request.metadata_mut().insert("do", what.parse().unwrap());
    if let Some(class) = criticality {
        request.metadata_mut().insert("sinew-criticality", class.parse().unwrap());
    }
    request
}

async fn call(channel: &Channel, what: &str, criticality: Option<&str>) -> Result<(), Status> {
    AdminServiceClient::new(channel.clone()).get_info(request(what, criticality)).await.map(drop)
}

/// Calls under way become so many, of the highest class.
async fn fill(server: &Running, channel: &Channel, calls: &mut JoinSet<Result<(), Status>>, many: usize) {
    while calls.len() < many {
        let channel = channel.clone();
        calls.spawn(async move { call(&channel, "wait", Some("CRITICAL_PLUS")).await });
    }
    server.eventually("they are under way", || server.handlers.waiting.load(SeqCst) == many).await;
}

/// How it was refused: code and pushback.
fn refusal(result: Result<(), Status>) -> Option<(Code, String)> {
    let status = result.err()?;
    let pushback = status.metadata().get("grpc-retry-pushback-ms").map_or("none", |v| v.to_str().unwrap());
    Some((status.code(), pushback.to_owned()))
}

#[tokio::test]
async fn those_that_can_wait_are_refused_first() {
    let mut config = config();
    config.limits.calls = 10;
    let server = start(config).await;
    let channel = server.channel().await;
    let counter = |class: Criticality| {
        let labels = vec![("service", "test".to_owned()), ("criticality", class.as_str().to_owned())];
        Registry::global().counter("server_calls_refused_total", labels).load(Relaxed)
    };
    let before = Criticality::ALL.map(counter);
    let refused = Some((Code::ResourceExhausted, "100".to_owned()));
    let classes = [Some("SHEDDABLE"), Some("SHEDDABLE_PLUS"), None, Some("an unknown one"), Some("CRITICAL_PLUS")];
    let mut calls = JoinSet::new();
    for (under_way, expected) in [
        (4, [None, None, None, None, None]),
        (5, [refused.clone(), None, None, None, None]),
        (8, [refused.clone(), refused.clone(), None, None, None]),
        (9, [refused.clone(), refused.clone(), refused.clone(), refused.clone(), None]),
        (10, [refused.clone(), refused.clone(), refused.clone(), refused.clone(), refused.clone()]),
    ] {
        fill(&server, &channel, &mut calls, under_way).await;
        for (class, expected) in classes.into_iter().zip(expected) {
            assert_eq!(refusal(call(&channel, "nothing", class).await), expected, "{class:?} beside {under_way}");
        }
    }
    // Tests of this process share the registry, so at least.
    for (class, (before, refused)) in Criticality::ALL.into_iter().zip(before.into_iter().zip([1, 4, 3, 4])) {
        assert!(counter(class) >= before + refused, "{class:?}");
    }
    server.handlers.let_go.notify_waiters();
    while let Some(ended) = calls.join_next().await {
        ended.unwrap().unwrap();
    }
    assert_eq!(refusal(call(&channel, "nothing", Some("SHEDDABLE")).await), None);
}

#[tokio::test]
async fn health_is_told_however_full_it_is() {
    let mut config = config();
    config.limits.calls = 1;
    let server = start(config).await;
    let channel = server.channel().await;
    let mut calls = JoinSet::new();
    fill(&server, &channel, &mut calls, 1).await;
    assert!(call(&channel, "nothing", None).await.is_err());
    let health = HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(health.into_inner().status, 1);
}

#[tokio::test]
async fn what_a_call_matters_reaches_what_it_calls() {
    let server = start(config()).await;
    let channel = server.channel().await;
    for (sent, seen) in [
        (Some("SHEDDABLE"), Criticality::Sheddable),
        (Some("CRITICAL_PLUS"), Criticality::CriticalPlus),
        (Some("nonsense"), Criticality::Critical),
        (None, Criticality::Critical),
    ] {
        call(&channel, "nothing", sent).await.unwrap();
        assert_eq!(server.handlers.context.lock().unwrap().criticality, seen, "{sent:?}");
    }
}

#[tokio::test]
async fn a_queue_is_noticed_and_kept_short() {
    let mut config = config();
    config.limits.adaptive = Some(AdaptiveConcurrency::default());
    let server = start(config).await;
    let channel = server.channel().await;
    // What they take alone.
    for _ in 0..200 {
        call(&channel, "work", None).await.unwrap();
    }
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let channel = channel.clone();
        callers.spawn(async move {
            loop {
                if let Err(status) = call(&channel, "work", None).await {
                    return status;
                }
            }
        });
    }
    let refused = timeout(LIMIT * 3, callers.join_next()).await.expect("the queue is noticed").unwrap().unwrap();
    // A hundred callers, ten thousand places: only the limit that follows latency can have refused.
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}
