//! What is answered: registrations, refusals, checks, maintenance, lists.

use crate::{Both, service};

#[tokio::test]
async fn registrations_are_taken_and_shown_alike() {
    let both = Both::start().await;
    for body in [
        service("a-1", "a", "blue"),
        service("a-2", "a", "green"),
        r#"{"Name":"bare"}"#.to_owned(),
        r#"{"Name":"node","Port":7}"#.to_owned(),
        r#"{"Name":"weighted","Port":7,"Weights":{"Passing":10,"Warning":3}}"#.to_owned(),
        r#"{"Name":"tagged","Port":7,"Address":"10.0.0.1","TaggedAddresses":{"wan":{"Address":"203.0.113.9","Port":443}}}"#
            .to_owned(),
        r#"{"ID":"one","Name":"check","Check":{"TTL":"30s"}}"#.to_owned(),
    ] {
        both.agree("PUT", "agent/service/register", &body).await;
    }
    for path in [
        "agent/services",
        "agent/service/a-1",
        "agent/service/nobody",
        "agent/checks",
        "agent/health/service/id/a-1",
        "agent/health/service/id/one",
        "agent/health/service/id/nobody",
        "catalog/services",
        "catalog/service/a",
        "catalog/service/a?tag=blue",
        "catalog/service/tagged",
        "catalog/service/nobody",
        "health/service/nobody",
        "health/service/a",
        "health/service/a?passing",
        "health/service/a?tag=green",
        "health/service/a?tag=green&tag=blue",
        "health/service/check",
        "health/service/check?passing",
        "health/service/weighted",
        "health/service/tagged",
    ] {
        both.agree("GET", path, "").await;
    }
}

#[tokio::test]
async fn what_is_refused_is_refused_alike() {
    let both = Both::start().await;
    for body in [
        "",
        "{bad",
        r#"{"ID":"x"}"#,
        r#"{"Name":"x","Bogus":1}"#,
        r#"{"Name":"x","Locality":{"Zone":"z"}}"#,
        r#"{"Name":"x","Port":"a"}"#,
        r#"{"Name":"x","Weights":{"Passing":0,"Warning":1}}"#,
        r#"{"Name":"x","Weights":{"Passing":1,"Warning":-1}}"#,
        r#"{"Name":"x","Check":{"TTL":""}}"#,
        r#"{"Name":"x","Check":{"TTL":"zz"}}"#,
        r#"{"Name":"x","Check":{"GRPC":"127.0.0.1:1"}}"#,
        r#"{"Name":"x","Check":{"GRPC":"127.0.0.1:1","Interval":"10"}}"#,
        r#"{"Name":"x","Check":{"Bogus":1}}"#,
    ] {
        both.agree("PUT", "agent/service/register", body).await;
    }
    both.agree("PUT", "agent/service/register", &service("a-1", "a", "t")).await;
    for (method, path) in [
        ("GET", "agent/service/register"),
        ("PUT", "agent/service/maintenance/a-1"),
        ("PUT", "agent/service/maintenance/a-1?enable=x"),
        ("PUT", "agent/service/maintenance/nobody?enable=true"),
        ("PUT", "agent/check/pass/nothing"),
        ("PUT", "agent/check/pass/a-1:grpc"),
        ("GET", "health/service/a?index=abc"),
        ("GET", "health/service/a?index=-1"),
        ("GET", "health/service/a?wait=10"),
        ("GET", "health/service/a?passing=xx"),
        ("PUT", "agent/service/deregister/nobody"),
    ] {
        both.agree(method, path, "").await;
    }
}

#[tokio::test]
async fn checks_and_maintenance_change_health_alike() {
    let both = Both::start().await;
    both.agree("PUT", "agent/service/register", &service("a-1", "a", "t")).await;
    for (path, body) in [
        ("agent/check/warn/a-1:ttl", ""),
        ("agent/check/fail/a-1:ttl", ""),
        ("agent/check/pass/a-1:ttl", ""),
        ("agent/check/update/a-1:ttl", r#"{"Status":"warning","Output":"hm"}"#),
        ("agent/check/update/a-1:ttl", r#"{"Status":"bad"}"#),
        ("agent/service/maintenance/a-1?enable=true&reason=an+operator", ""),
        ("agent/service/maintenance/a-1?enable=true&reason=another", ""),
        // A registration does not lift it.
        ("agent/service/register", &service("a-1", "a", "other")),
        ("agent/service/maintenance/a-1?enable=false", ""),
        ("agent/service/maintenance/a-1?enable=true", ""),
        ("agent/service/deregister/a-1", ""),
    ] {
        both.agree("PUT", path, body).await;
        for look in
            ["agent/checks", "agent/health/service/id/a-1", "health/service/a", "health/service/a?passing", "catalog/services"]
        {
            both.agree("GET", look, "").await;
        }
    }
}
