//! When another endpoint is asked as well (gRFC A6).

use crate::support::{GET, PUT, Server, World, answer, pause, read, status, wait_for};
use sinew_client::{Config, LimitsConfig, RetryConfig};
use sinew_core::context;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::time::Instant;
use tonic::Code;

/// In turns, so that it is known who has the first attempt.
macro_rules! hedging {
    ($fields:literal) => {
        concat!(
            r#"{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{"service":"t.T"}],"hedgingPolicy":{"#,
            $fields,
            "}}]}"
        )
    };
}

const AFTER_50_MS: &str = hedging!(r#""maxAttempts":3,"hedgingDelay":"0.05s","nonFatalStatusCodes":["UNAVAILABLE"]"#);

/// Echoes after so many milliseconds.
fn timed(ms: u64) -> Server {
    Server::new(move |request, respond| async move {
        let message = read(request.into_body()).await;
        pause(ms).await;
        answer(respond, message).await;
    })
}

/// A world whose endpoints are all ready.
async fn world(servers: &[&Server], config: &'static str) -> World {
    let world = World::with(servers, Config::default(), config);
    world.ready(servers.len()).await;
    world
}

fn calls(servers: &[&Server]) -> Vec<usize> {
    servers.iter().map(|server| server.calls()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_is_overtaken_and_cancelled() {
    let (slow, quick) = (Server::silent(), timed(1));
    let world = world(&[&slow, &quick], AFTER_50_MS).await;
    for _ in 0..10 {
        let start = Instant::now();
        assert_eq!(world.call(GET, b"x").await.expect("by the quick one"), "x");
        assert!(start.elapsed().as_millis() <= 60, "{:?}", start.elapsed());
    }
    assert!(slow.calls() >= 1, "the slow one was not asked at all");
    // Nothing of the overtaken ones is left.
    wait_for(|| world.endpoints().iter().all(|e| e.in_flight == 0), || format!("{:?}", world.endpoints())).await;
    let tried: Vec<_> = quick.seen().iter().filter_map(|s| s.headers.get("grpc-previous-rpc-attempts").cloned()).collect();
    assert!(tried.iter().all(|attempts| attempts == "1") && tried.len() == slow.calls(), "{tried:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_is_the_only_one() {
    let servers = [timed(40), timed(40)];
    let world = world(&servers.each_ref(), AFTER_50_MS).await;
    for _ in 0..10 {
        world.call(GET, b"x").await.expect("echo");
    }
    assert_eq!(calls(&servers.each_ref()).iter().sum::<usize>(), 10);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_made_elsewhere_and_no_more_than_the_policy_has() {
    let servers = [Server::silent(), Server::silent(), Server::silent(), Server::silent()];
    let world = Arc::new(world(&servers.each_ref(), AFTER_50_MS).await);
    let caller = tokio::spawn({
        let world = world.clone();
        async move { world.call(GET, b"x").await }
    });
    assert_eq!(caller.await.expect("no panic").expect_err("nobody answers").code(), Code::DeadlineExceeded);
    let mut calls = calls(&servers.each_ref());
    calls.sort_unstable();
    assert_eq!(calls, [0, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_non_fatal_answer_brings_the_next_attempt_forward_and_a_fatal_one_is_the_calls() {
    let start = Instant::now();
    let (away, quick) = (Server::failing("14"), timed(1));
    let w = world(&[&away, &quick], AFTER_50_MS).await;
    for _ in 0..4 {
        w.call(GET, b"x").await.expect("by the other");
    }
    assert!(away.calls() >= 1 && start.elapsed().as_millis() < 50, "{:?}", start.elapsed());

    let (wrong, quick) = (Server::failing("3"), timed(1));
    let w = world(&[&wrong, &quick], AFTER_50_MS).await;
    let mut codes = Vec::new();
    for _ in 0..2 {
        codes.push(w.call(GET, b"x").await.map_or_else(|status| status.code(), |_| Code::Ok));
    }
    codes.sort_by_key(|code| *code as i32);
    assert_eq!(codes, [Code::Ok, Code::InvalidArgument]);
}

#[tokio::test(start_paused = true)]
async fn when_all_attempts_fail_the_last_answer_is_the_calls() {
    let servers = [Server::failing("14"), Server::failing("14")];
    let world = world(&servers.each_ref(), AFTER_50_MS).await;
    assert_eq!(world.call(GET, b"x").await.expect_err("all fail").code(), Code::Unavailable);
    assert_eq!(calls(&servers.each_ref()).iter().sum::<usize>(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_servers_say_when_the_next_attempt_is_made_or_that_none_is() {
    let pushed =
        |ms: &'static str| Server::new(move |_, respond| async move { status(respond, "14", &[("grpc-retry-pushback-ms", ms)]) });
    for (ms, at_most, attempts) in [("200", 700, 3), ("-1", 40, 1)] {
        let servers = [pushed(ms), pushed(ms)];
        let world = world(&servers.each_ref(), AFTER_50_MS).await;
        let start = Instant::now();
        assert_eq!(world.call(GET, b"x").await.expect_err("all fail").code(), Code::Unavailable);
        assert_eq!(calls(&servers.each_ref()).iter().sum::<usize>(), attempts, "{ms}");
        let took = start.elapsed().as_millis() as usize;
        assert!((200 * (attempts - 1)..=at_most).contains(&took), "{ms}: {took} ms");
    }
}

/// A no counts, whatever another attempt says later; and so does the longest wait.
#[tokio::test(start_paused = true)]
async fn a_later_answer_does_not_take_back_what_an_earlier_one_asked_for() {
    let refusing = |ms, pushback: &'static [(&'static str, &'static str)]| {
        Server::new(move |_, respond| async move {
            pause(ms).await;
            status(respond, "14", pushback);
        })
    };
    let servers = [refusing(60, &[("grpc-retry-pushback-ms", "-1")]), refusing(60, &[]), refusing(60, &[])];
    let world = world(&servers.each_ref(), AFTER_50_MS).await;
    let mut attempts = Vec::new();
    for _ in 0..3 {
        let before = calls(&servers.each_ref()).iter().sum::<usize>();
        assert_eq!(world.call(GET, b"x").await.expect_err("all fail").code(), Code::Unavailable);
        attempts.push(calls(&servers.each_ref()).iter().sum::<usize>() - before);
    }
    // Two are under way when the first answers; a third is made only where neither of these said no.
    assert!(attempts.contains(&2) && attempts.iter().all(|n| (2..=3).contains(n)), "{attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let server = Server::new(|_, respond| async move { status(respond, "14", &[("grpc-retry-pushback-ms", "60000")]) });
    let world = world(&[&server], AFTER_50_MS).await;
    let start = Instant::now();
    assert_eq!(world.call(GET, b"x").await.expect_err("refused").code(), Code::Unavailable);
    assert!(start.elapsed().as_millis() < 20, "{:?}", start.elapsed());
}

/// A hedge that finds no place for itself must not end the attempt that has one.
#[tokio::test(start_paused = true)]
async fn a_hedge_that_finds_no_endpoint_ends_nothing() {
    let slow = timed(200);
    let limits = LimitsConfig { max_requests: 1, ..LimitsConfig::default() };
    let world =
        World::with(&[&slow], Config { limits, ..Config::default() }, hedging!(r#""maxAttempts":3,"hedgingDelay":"0.05s""#));
    world.ready(1).await;
    assert_eq!(world.call(GET, b"x").await.expect("by the first attempt"), "x");
    assert_eq!(slow.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_delay_all_attempts_begin_at_once() {
    let servers = [timed(30), timed(20), timed(10)];
    let world = world(&servers.each_ref(), hedging!(r#""maxAttempts":3"#)).await;
    let start = Instant::now();
    world.call(GET, b"x").await.expect("by the quickest");
    assert!((10..=12).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(calls(&servers.each_ref()), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn neither_what_must_not_be_repeated_nor_a_call_for_a_repeated_call_is_hedged() {
    let servers = [timed(200), timed(200)];
    let world = world(&servers.each_ref(), AFTER_50_MS).await;
    world.call(PUT, b"x").await.expect("echo");
    let inbound = sinew_core::Context { attempt: 1, ..Default::default() };
    context::scope(inbound, world.call(GET, b"x")).await.expect("echo");
    assert_eq!(calls(&servers.each_ref()).iter().sum::<usize>(), 2);
}

/// A destination that is slow as a whole is not given three times its load.
#[tokio::test(start_paused = true)]
async fn hedges_are_paid_from_the_budget_of_retries() {
    let servers = [timed(100), timed(100), timed(100)];
    let retry = RetryConfig { budget_ratio: 0.1, budget_min_per_second: 0, ..RetryConfig::default() };
    let world = World::with(&servers.each_ref(), Config { retry, ..Config::default() }, AFTER_50_MS);
    world.ready(3).await;
    for _ in 0..200 {
        world.call(GET, b"x").await.expect("echo");
    }
    let all = calls(&servers.each_ref()).iter().sum::<usize>();
    assert!((210..=222).contains(&all), "{all} attempts of 200 calls");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_an_endpoint_waits_once() {
    let server = timed(1);
    let config = r#"{"methodConfig":[{"name":[{"service":"t.T"}],"waitForReady":true,"hedgingPolicy":{"maxAttempts":3}}]}"#;
    let world = World::with(&[], Config::default(), config);
    let served = Arc::new(AtomicUsize::new(0));
    let call = async {
        world.call(GET, b"x").await.expect("once there is one");
        served.fetch_add(1, Relaxed);
    };
    let come = async {
        pause(300).await;
        world.network.serve(1, &server);
        world.list.set(&crate::support::t(), vec![crate::support::endpoint(1)]);
    };
    tokio::join!(biased; call, come);
    assert_eq!((server.calls(), served.load(Relaxed)), (1, 1));
}
