//! When an endpoint, or a method of it, is left alone.

use crate::support::{GET, PUT, Server, World, answer, read, status, wait_for};
use sinew_client::{BreakerState, Config};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tonic::Code;

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_its_calls_is_left_alone_and_probed_later() {
    let server = Server::failing("13");
    let world = World::of(&[&server]);
    for _ in 0..5 {
        assert_eq!(world.call(PUT, b"x").await.expect_err("failing").code(), Code::Internal);
    }
    let error = world.call(PUT, b"x").await.expect_err("its breaker is open");
    assert_eq!(error.code(), Code::Unavailable);
    let text = "t: none of 1 endpoints can take the call: 1 with an open breaker (next probe in 30.0 s)";
    assert_eq!(error.message(), text);
    assert_eq!(server.calls(), 5);
    assert!(matches!(world.endpoints()[0].breaker, BreakerState::Open { .. }));

    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.call(PUT, b"x").await.expect_err("still failing").code(), Code::Internal, "a probe");
    assert_eq!(world.call(PUT, b"x").await.expect_err("open again").code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn one_open_breaker_costs_no_call_and_a_new_connection_closes_it() {
    let (bad, good) = (Server::failing("13"), Server::echo());
    // In turns: peak EWMA would leave the bad one alone before its breaker does.
    let world = World::with(&[&bad, &good], Config::default(), r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#);
    world.ready(2).await;
    while bad.calls() < 5 {
        let _ = world.call(PUT, b"x").await;
    }
    for _ in 0..50 {
        world.call(PUT, b"x").await.expect("by the other");
    }
    assert_eq!(bad.calls(), 5);
    // A restarted process deserves a chance at once.
    let healed = Server::echo();
    world.network.serve(1, &healed);
    bad.cut();
    wait_for(|| matches!(world.endpoints()[0].breaker, BreakerState::HalfOpen), || format!("{:?}", world.endpoints())).await;
    while healed.calls() < 3 {
        world.call(PUT, b"x").await.expect("healed");
    }
    assert_eq!(world.endpoints()[0].breaker, BreakerState::Closed);
}

/// A database that all of them share goes away and comes back: the outage of those who call them is not 30 s long.
#[tokio::test(start_paused = true)]
async fn when_every_breaker_is_open_they_are_probed_after_a_second() {
    let ill = Arc::new(AtomicBool::new(true));
    let server = || {
        let ill = ill.clone();
        Server::new(move |request, respond| {
            let ill = ill.load(Relaxed);
            async move {
                let message = read(request.into_body()).await;
                if ill { status(respond, "14", &[]) } else { answer(respond, message).await }
            }
        })
    };
    let servers = [server(), server()];
    let world = World::of(&servers.each_ref());
    world.ready(2).await;
    let calls = || servers.iter().map(Server::calls).sum::<usize>();
    while calls() < 10 {
        let _ = world.call(PUT, b"x").await;
    }
    let error = world.call(PUT, b"x").await.expect_err("both breakers are open");
    let text = "t: none of 2 endpoints can take the call: 2 with an open breaker (next probe in 1.0 s)";
    assert_eq!((calls(), error.message()), (10, text));
    // One probe each second while it lasts.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..5 {
        let _ = world.call(PUT, b"x").await;
    }
    assert_eq!(calls(), 12, "one of each");
    ill.store(false, Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        world.call(PUT, b"x").await.expect("well again");
    }
    // With one that is well, the other waits for its own time.
    assert!(world.endpoints().iter().any(|e| e.breaker == BreakerState::Closed), "{:?}", world.endpoints());
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_connection_leave_the_breaker_closed() {
    let server = Server::silent();
    let world = Arc::new(World::of(&[&server]));
    for round in 1..=7 {
        world.ready(1).await;
        let caller = tokio::spawn({
            let world = world.clone();
            async move { world.call(PUT, b"x").await }
        });
        wait_for(|| server.calls() == round, || format!("{} calls", server.calls())).await;
        server.cut();
        assert_eq!(caller.await.expect("no panic").expect_err("cut").code(), Code::Unavailable);
    }
    assert_eq!(world.endpoints()[0].breaker, BreakerState::Closed);
}

/// Fails its method `Get`, and does the others.
fn fails_get() -> Server {
    Server::new(|request, respond| async move {
        let path = request.uri().path().to_owned();
        let message = read(request.into_body()).await;
        if path == GET { status(respond, "13", &[]) } else { answer(respond, message).await }
    })
}

#[tokio::test(start_paused = true)]
async fn a_method_that_fails_with_a_breaker_of_its_own_leaves_the_others_alone() {
    let server = fails_get();
    let config = r#"{"methodConfig":[{"name":[{"service":"t.T","method":"Get"}],
        "sinewCircuitBreaker":{"consecutiveFailures":3,"openTime":"2s"}}]}"#;
    let world = World::with(&[&server], Config::default(), config);
    for _ in 0..3 {
        assert_eq!(world.call(GET, b"x").await.expect_err("failing").code(), Code::Internal);
    }
    let error = world.call(GET, b"x").await.expect_err("its breaker is open");
    let text = "t: none of 1 endpoints can take the call: 1 with an open breaker (next probe in 2.0 s)";
    assert_eq!((error.code(), error.message()), (Code::Unavailable, text));
    for _ in 0..10 {
        world.call(PUT, b"x").await.expect("another method");
    }
    let endpoint = world.endpoints().remove(0);
    assert_eq!(endpoint.breaker, BreakerState::Closed);
    assert!(matches!(&*endpoint.method_breakers, [(path, BreakerState::Open { .. })] if &**path == GET), "{endpoint:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.call(GET, b"x").await.expect_err("still failing").code(), Code::Internal, "a probe");
    assert_eq!(server.calls(), 14);
}

#[tokio::test(start_paused = true)]
async fn without_one_a_failing_method_opens_the_endpoints() {
    let server = fails_get();
    let world = World::of(&[&server]);
    for _ in 0..5 {
        assert_eq!(world.call(GET, b"x").await.expect_err("failing").code(), Code::Internal);
    }
    assert_eq!(world.call(PUT, b"x").await.expect_err("open").code(), Code::Unavailable);
    assert_eq!(world.endpoints()[0].method_breakers, []);
}

#[tokio::test(start_paused = true)]
async fn half_of_the_calls_failing_opens_a_breaker_that_counts_shares() {
    let every_other = AtomicBool::new(false);
    let server = Server::new(move |request, respond| {
        let ill = every_other.fetch_xor(true, Relaxed);
        async move {
            let message = read(request.into_body()).await;
            if ill { status(respond, "13", &[]) } else { answer(respond, message).await }
        }
    });
    let config = r#"{"sinewCircuitBreaker":{"failureRate":{"percent":50,"minimumRequests":10}}}"#;
    let world = World::with(&[&server], Config::default(), config);
    for _ in 0..10 {
        let _ = world.call(PUT, b"x").await;
    }
    assert_eq!(world.call(PUT, b"x").await.expect_err("open").code(), Code::Unavailable);
    assert_eq!(server.calls(), 10);
}
