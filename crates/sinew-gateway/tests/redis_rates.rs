//! Quotas in a real Redis.

use sinew_gateway::{MemoryRates, Quota, RateKey, RateStore, RedisRates};
use std::{collections::HashSet, time::Duration};
use testkit::{Redis, wait_for};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

const SOON: Duration = Duration::from_secs(10);

fn subject(name: &str) -> RateKey {
    RateKey::Subject(name.into())
}

#[tokio::test]
async fn gateways_share_a_quota_to_the_call() {
    let redis = Redis::start().await.unwrap();
    let gateways: Vec<_> =
        (0..2).map(|_| std::sync::Arc::new(RedisRates::open(&redis.url().parse().unwrap(), 100).unwrap())).collect();
    // So slow that no call comes back meanwhile.
    let (key, quota) = (subject("ada"), Quota::new(1, 20).unwrap());
    let mut calls = JoinSet::new();
    for n in 0..60 {
        let (gateway, key) = (gateways[n % 2].clone(), key.clone());
        calls.spawn(async move { gateway.take(&key, quota).await.unwrap() });
    }
    let verdicts = calls.join_all().await;
    let passed: Vec<_> = verdicts.iter().filter(|v| v.wait.is_none()).map(|v| v.remaining).collect();
    assert_eq!(passed.len(), 20, "{verdicts:?}");
    assert_eq!(passed.iter().copied().collect::<HashSet<_>>(), (0..20).collect(), "each of them took one");
    assert!(verdicts.iter().filter_map(|v| v.wait).all(|wait| wait <= Duration::from_secs(1)), "{verdicts:?}");
    assert!(gateways[0].take(&subject("grace"), quota).await.unwrap().wait.is_none(), "somebody else's quota");
}

#[tokio::test]
async fn who_waits_as_told_gets_through_and_the_headers_are_those_of_one_process() {
    let redis = Redis::start().await.unwrap();
    let (together, alone) = (RedisRates::open(&redis.url().parse().unwrap(), 100).unwrap(), MemoryRates::new(100));
    let (key, quota) = (subject("ada"), Quota::new(2, 3).unwrap());
    for _ in 0..3 {
        let (one, other) = (together.take(&key, quota).await.unwrap(), alone.take(&key, quota).await.unwrap());
        assert_eq!((one.wait, one.limit, one.remaining), (other.wait, other.limit, other.remaining));
        assert!(one.reset.abs_diff(other.reset) < Duration::from_millis(400), "{one:?} {other:?}");
    }
    let asked = Instant::now();
    let told = together.take(&key, quota).await.unwrap();
    let wait = told.wait.expect("the quota is used up");
    assert!(wait <= Duration::from_millis(500), "{told:?}");
    sleep_until(asked + wait + Duration::from_millis(5)).await;
    assert!(together.take(&key, quota).await.unwrap().wait.is_none());
}

#[tokio::test]
async fn a_redis_that_is_away_or_stalls_costs_the_limit_of_others_and_no_call_its_time() {
    let mut redis = Redis::start().await.unwrap();
    let gateway = RedisRates::open(&redis.url().parse().unwrap(), 100).unwrap();
    let (key, quota) = (subject("ada"), Quota::new(1, 5).unwrap());
    assert_eq!(gateway.take(&key, quota).await.unwrap().remaining, 4);
    redis.process().freeze().unwrap();
    let began = Instant::now();
    let mut passed = 0;
    for _ in 0..100 {
        passed += u32::from(gateway.take(&key, quota).await.unwrap().wait.is_none());
    }
    assert_eq!(passed, 5, "this gateway's own quota");
    assert!(began.elapsed() < Duration::from_millis(500), "100 calls took {:?}", began.elapsed());
    redis.process().thaw().unwrap();
    // The shared quota was used once before, and by nobody since: what follows tells whose it is.
    wait_for("the shared quota to be used again", SOON, async || {
        let fresh = subject("grace");
        gateway.take(&fresh, quota).await.map_err(|e| e.to_string())?;
        match shared(&redis.url(), "sinew:rate:subject:grace").await {
            Ok(true) => Ok(()),
            other => Err(format!("whether Redis was asked: {other:?}")),
        }
    })
    .await
    .unwrap();
}

/// Whether Redis has this key.
async fn shared(url: &str, key: &str) -> redis::RedisResult<bool> {
    let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    redis::cmd("EXISTS").arg(key).query_async(&mut redis).await
}
