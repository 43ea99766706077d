//! Who gets which call.

use crate::support::{GET, PUT, Server, World, answer, pause, read, status};
use http::{HeaderMap, HeaderName, HeaderValue};
use sinew_client::{BreakerState, Config, LimitsConfig};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn spread(config: &'static str, servers: &[&Server], calls: usize, at_once: usize) -> Vec<usize> {
    let world = Arc::new(World::with(servers, Config::default(), config));
    world.ready(servers.len()).await;
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        let world = world.clone();
        callers.spawn(async move {
            for _ in 0..calls / at_once {
                world.call(GET, b"x").await.expect("echo");
            }
        });
    }
    while let Some(one) = callers.join_next().await {
        one.expect("no call failed");
    }
    servers.iter().map(|s| s.calls()).collect()
}

#[tokio::test(start_paused = true)]
async fn round_robin_shares_equally() {
    let servers = [Server::echo(), Server::echo(), Server::echo()];
    let shares = spread(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#, &servers.each_ref(), 300, 1).await;
    assert_eq!(shares, [100, 100, 100]);
}

#[tokio::test(start_paused = true)]
async fn least_request_shares_about_equally_among_equals() {
    let servers = [Server::echo(), Server::echo(), Server::echo()];
    let shares = spread(LEAST_REQUEST, &servers.each_ref(), 3_000, 1).await;
    assert!(shares.iter().all(|share| (900..=1_100).contains(share)), "{shares:?}");
}

const RETRY: &str = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.1s","maxBackoff":"1s",
    "backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;
const LEAST_REQUEST: &str = r#"{"loadBalancingConfig":[{"least_request_experimental":{}}]}"#;

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_is_spared_by_least_request_and_left_by_the_default() {
    let timed = |ms| {
        Server::new(move |request, respond| async move {
            let message = read(request.into_body()).await;
            pause(ms).await;
            answer(respond, message).await;
        })
    };
    for (config, most) in [(LEAST_REQUEST, 300), ("{}", 60)] {
        let servers = [timed(10), timed(10), timed(200)];
        let shares = spread(config, &servers.each_ref(), 3_000, 30).await;
        assert!(shares[2] < most, "{config}: {shares:?}");
    }
}

/// Every third call of one fails: no breaker opens, but compared with the others it is an outlier.
#[tokio::test(start_paused = true)]
async fn one_that_fails_more_than_the_others_is_left_out_for_a_while() {
    let config = r#"{"loadBalancingConfig":[{"outlier_detection_experimental":{"interval":"1s","baseEjectionTime":"5s",
        "failurePercentageEjection":{"threshold":30,"minimumHosts":3,"requestVolume":10},"childPolicy":[{"round_robin":{}}]}}]}"#;
    let third = Arc::new(AtomicUsize::new(0));
    let ill = Server::new(move |request, respond| {
        let fails = third.fetch_add(1, Relaxed).is_multiple_of(3);
        async move {
            let message = read(request.into_body()).await;
            if fails { status(respond, "13", &[]) } else { answer(respond, message).await }
        }
    });
    let servers = [ill, Server::echo(), Server::echo()];
    let world = World::with(&servers.each_ref(), Config::default(), config);
    world.ready(3).await;
    for _ in 0..60 {
        let _ = world.call(PUT, b"x").await;
    }
    assert_eq!((servers[0].calls(), &world.endpoints()[0].breaker), (20, &BreakerState::Closed));
    crate::support::wait_for(|| world.endpoints()[0].ejected, || format!("{:?}", world.endpoints())).await;
    for _ in 0..60 {
        world.call(PUT, b"x").await.expect("by the others");
    }
    assert_eq!(servers[0].calls(), 20);
    crate::support::wait_for(|| !world.endpoints()[0].ejected, || format!("{:?}", world.endpoints())).await;
    for _ in 0..6 {
        let _ = world.call(PUT, b"x").await;
    }
    assert!(servers[0].calls() > 20, "it has another chance");
}

/// Calls of one user go to one endpoint, whichever policy keeps them together, and another's to any.
#[tokio::test(start_paused = true)]
async fn calls_with_the_same_header_go_to_the_same_endpoint() {
    for policy in ["ring_hash_experimental", "sinew_maglev"] {
        let config: &str = format!(r#"{{"loadBalancingConfig":[{{"{policy}":{{"requestHashHeader":"x-user"}}}}]}}"#).leak();
        let servers = [Server::echo(), Server::echo(), Server::echo()];
        let world = World::with(&servers.each_ref(), Config::default(), config);
        world.ready(3).await;
        for user in 0..30 {
            let before: Vec<_> = servers.iter().map(Server::calls).collect();
            let (name, value) = (HeaderName::from_static("x-user"), HeaderValue::from(user));
            for _ in 0..5 {
                world.call_with(GET, b"x", HeaderMap::from_iter([(name.clone(), value.clone())])).await.expect("echo");
            }
            let taken = servers.iter().zip(before).filter(|(server, before)| server.calls() > *before).count();
            assert_eq!(taken, 1, "{policy}: all five of user {user}");
        }
        assert!(servers.iter().all(|server| server.calls() > 0), "{policy}: not all users have the same endpoint");
    }
}

/// What is beyond the limits fails at once, says when to come back, and is not repeated.
#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limits_fail_at_once() {
    let limits = LimitsConfig { max_requests: 2, max_pending: 1 };
    let slow = Server::new(|request, respond| async move {
        let message = read(request.into_body()).await;
        pause(100).await;
        answer(respond, message).await;
    });
    let world = Arc::new(World::with(&[&slow], Config { limits, ..Config::default() }, RETRY));
    let calls = |count| {
        let mut calls = JoinSet::new();
        for _ in 0..count {
            let world = world.clone();
            calls.spawn(async move { world.call(GET, b"x").await });
        }
        calls.join_all()
    };
    let refused = |outcomes: Vec<Result<_, Status>>, why: &str| {
        let refused: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        for status in &refused {
            assert!(status.code() == Code::Unavailable && status.message().contains(why), "{status:?}");
            assert_eq!(status.get_details_retry_info().and_then(|info| info.retry_delay), Some(Duration::from_millis(100)));
        }
        refused.len()
    };
    // Nobody is connected yet: one may wait.
    assert_eq!(refused(calls(3).await, "1 calls wait for an endpoint"), 2);
    let before = slow.calls();
    assert_eq!(refused(calls(5).await, "2 calls are under way"), 3);
    assert_eq!(slow.calls() - before, 2, "what is refused here does not reach the server, nor does a repetition");
    assert_eq!(refused(calls(2).await, ""), 0, "places are given back");
}
