//! Faults put in on purpose.

use crate::support::{GET, PUT, RETRY, Server, World};
use http::{HeaderMap, HeaderName, HeaderValue};
use sinew_client::{BreakerState, Config};
use sinew_core::fault_injection::FaultInjection;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::Code;

fn config(json: &str) -> Config {
    Config { faults: Some(Arc::new(FaultInjection::parse(json).expect("valid"))), ..Config::default() }
}

fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

#[tokio::test(start_paused = true)]
async fn an_aborted_attempt_asks_nobody_blames_nobody_and_is_repeated_like_any_other() {
    let server = Server::echo();
    let faults = r#"{"faults":[{"name":[{"service":"t.T","method":"Get"}],"abort":{"code":"UNAVAILABLE"}}]}"#;
    let world = World::with(&[&server], config(faults), RETRY);
    for _ in 0..5 {
        let error = world.call(GET, b"x").await.expect_err("aborted");
        assert_eq!((error.code(), error.message()), (Code::Unavailable, "fault injection: asked for"));
    }
    world.call(PUT, b"x").await.expect("another method");
    assert_eq!((server.calls(), &world.endpoints()[0].breaker), (1, &BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_share_of_aborts_is_what_retries_are_for() {
    let server = Server::echo();
    let faults = r#"{"faults":[{"name":[{}],"abort":{"code":"UNAVAILABLE","percent":10}}]}"#;
    let world = World::with(&[&server], config(faults), RETRY);
    let (mut failed, start) = (0, Instant::now());
    for _ in 0..500 {
        failed += usize::from(world.call(GET, b"x").await.is_err());
    }
    // One in a thousand has three in a row; and each retry waits 100 ms or so.
    let waited = start.elapsed().as_millis() / 100;
    assert!(failed <= 4 && (30..=90).contains(&waited), "{failed} failed, some {waited} retries");
}

#[tokio::test(start_paused = true)]
async fn a_delay_comes_before_the_call_and_within_its_deadline() {
    let server = Server::echo();
    let faults = r#"{"faults":[{"name":[{}],"delay":{"fixed":"0.3s"}}]}"#;
    let world = World::with(&[&server], config(faults), "{}");
    let start = Instant::now();
    world.call(GET, b"x").await.expect("late");
    assert_eq!(start.elapsed().as_millis() / 10, 30);
    let error = world.call_with(GET, b"x", headers(&[("grpc-timeout", "100m")])).await.expect_err("too late");
    assert_eq!((error.code(), server.calls()), (Code::DeadlineExceeded, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_asks_for_a_fault_where_callers_may() {
    let server = Server::echo();
    let abort = headers(&[("x-envoy-fault-abort-grpc-request", "8"), ("x-envoy-fault-delay-request", "50")]);
    let shut = World::with(&[&server], config("{}"), "{}");
    shut.call_with(GET, b"x", abort.clone()).await.expect("nobody may");
    let world = World::with(&[&server], config(r#"{"byHeader":true}"#), "{}");
    let start = Instant::now();
    assert_eq!(world.call_with(GET, b"x", abort).await.expect_err("asked for").code(), Code::ResourceExhausted);
    assert!(start.elapsed().as_millis() >= 50);
    let never = headers(&[("x-envoy-fault-abort-grpc-request", "8"), ("x-envoy-fault-abort-request-percentage", "0")]);
    world.call_with(GET, b"x", never).await.expect("no call of a hundred");
    for (bad, value) in [("x-envoy-fault-abort-grpc-request", "99"), ("x-envoy-fault-delay-request", "soon")] {
        let error = world.call_with(GET, b"x", headers(&[(bad, value)])).await.expect_err("nonsense");
        assert!(error.code() == Code::InvalidArgument && error.message().contains(bad), "{error}");
    }
}

/// To see a hedge one has to make a call slow.
#[tokio::test(start_paused = true)]
async fn a_delayed_attempt_is_hedged() {
    let server = Server::echo();
    let hedging = r#"{"methodConfig":[{"name":[{}],"hedgingPolicy":{"maxAttempts":2,"hedgingDelay":"0.02s"}}]}"#;
    let faults = r#"{"faults":[{"name":[{}],"delay":{"fixed":"10s","percent":50}}]}"#;
    let world = World::with(&[&server], config(faults), hedging);
    world.ready(1).await;
    let (mut quick, mut calls) = (0, 0);
    while calls < 40 {
        let start = Instant::now();
        let _ = world.call(GET, b"x").await;
        (quick, calls) = (quick + usize::from(start.elapsed().as_millis() < 100), calls + 1);
    }
    // Three of four have an attempt without a delay.
    assert!((22..=38).contains(&quick), "{quick} of {calls} were quick");
}
