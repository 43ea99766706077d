//! What wakes a blocked query, and what does not.

use crate::{Both, LIMIT, http::request, service};
use std::{net::SocketAddr, time::Duration};
use tokio::time::{sleep, timeout};

const WATCHED: &str = "health/service/a";

async fn index(agent: SocketAddr, path: &str) -> u64 {
    request(agent, "GET", path, "").await.index.0
}

/// How long what must not move is looked at: a real agent's catalogue follows within milliseconds.
const QUIET: Duration = Duration::from_millis(300);

/// Does it, and tells whether the index of `path` moved as expected.
async fn moves(agent: SocketAddr, path: &str, action: (&str, &str), expected: bool) -> bool {
    let before = index(agent, path).await;
    assert_eq!(request(agent, "PUT", action.0, action.1).await.status, 200, "{action:?}");
    let moved = async {
        while index(agent, path).await == before {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(if expected { LIMIT } else { QUIET }, moved).await.is_ok() == expected
}

#[tokio::test]
async fn the_same_changes_move_the_same_indexes() {
    let both = Both::start().await;
    let (a1, a2, b1) = (service("a-1", "a", "t"), service("a-2", "a", "t"), service("b-1", "b", "t"));
    let steps: [(&str, (&str, &str), bool); 14] = [
        ("its first instance", ("agent/service/register", &a1), true),
        ("the same again", ("agent/service/register", &a1), false),
        ("another service", ("agent/service/register", &b1), false),
        ("a second instance", ("agent/service/register", &a2), true),
        ("a pass that changes nothing", ("agent/check/pass/a-1:ttl", ""), false),
        ("a failing check", ("agent/check/fail/a-1:ttl", ""), true),
        ("another's failing check", ("agent/check/fail/b-1:ttl", ""), false),
        ("a passing check", ("agent/check/pass/a-1:ttl", ""), true),
        ("maintenance", ("agent/service/maintenance/a-1?enable=true", ""), true),
        ("maintenance again", ("agent/service/maintenance/a-1?enable=true", ""), false),
        ("its end", ("agent/service/maintenance/a-1?enable=false", ""), true),
        ("one instance leaves", ("agent/service/deregister/a-1", ""), true),
        ("another service leaves", ("agent/service/deregister/b-1", ""), false),
        ("the last instance leaves", ("agent/service/deregister/a-2", ""), true),
    ];
    for (name, agent) in both.each() {
        for (what, action, expected) in steps {
            assert!(moves(agent, WATCHED, action, expected).await, "{name}: {what}");
        }
        // Nobody of that name: any service that leaves is news, any that comes is none.
        assert!(moves(agent, "health/service/nobody", ("agent/service/register", &b1), false).await, "{name}");
        assert!(moves(agent, "health/service/nobody", ("agent/service/deregister/b-1", ""), true).await, "{name}");
    }
}

#[tokio::test]
async fn a_blocked_query_returns_at_the_change_with_what_changed() {
    let both = Both::start().await;
    for (name, agent) in both.each() {
        let listed = tokio::spawn(async move {
            let mut before = 0;
            loop {
                // A wake-up is no change: an agent that is still starting wakes a watch for other reasons.
                let answer = request(agent, "GET", &format!("{WATCHED}?index={before}&wait=60s"), "").await;
                let id = answer.json.unwrap()[0]["Service"]["ID"].clone();
                if !id.is_null() {
                    return (answer.index.0 > before, id);
                }
                before = answer.index.0;
            }
        });
        request(agent, "PUT", "agent/service/register", &service("a-1", "a", "t")).await;
        let (moved, id) = timeout(LIMIT, listed).await.unwrap_or_else(|_| panic!("{name}: still blocked")).unwrap();
        assert!(moved && id == "a-1", "{name}: {id}");
    }
}

#[tokio::test]
async fn without_a_change_the_wait_ends_with_the_same_index() {
    let both = Both::start().await;
    for (name, agent) in both.each() {
        request(agent, "PUT", "agent/service/register", &service("a-1", "a", "t")).await;
        let settled = async {
            while index(agent, WATCHED).await <= 1 || request(agent, "GET", WATCHED, "").await.json.unwrap()[0].is_null() {}
        };
        timeout(LIMIT, settled).await.unwrap_or_else(|_| panic!("{name}: not listed"));
        let before = index(agent, WATCHED).await;
        let answer = timeout(LIMIT, request(agent, "GET", &format!("{WATCHED}?index={before}&wait=100ms"), "")).await.unwrap();
        assert_eq!((answer.status, answer.index.0), (200, before), "{name}");
    }
}
