//! Quotas kept in Redis: one for all gateways.
//!
//! One script a call, on the clock of Redis, so that gateways need not agree about the time. While Redis does not answer,
//! each gateway keeps quotas by itself: callers are limited still, if not together, and no call waits for a store that is
//! known to be away.

use super::{MemoryRates, Quota, RateError, RateKey, RateStore, Verdict};
use redis::{
    Client, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use sinew_core::BoxFuture;
use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// How long a call may wait for its verdict. Redis answers in a fraction of a millisecond; a stalled one must not be what
/// makes calls slow.
const ANSWER: Duration = Duration::from_millis(50);

/// How long Redis is left alone after it did not answer. The calls that find out wait [`ANSWER`]: one in a second.
const REST: Duration = Duration::from_secs(1);

/// The address of a Redis. It may hold a password, so it is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct RateUrl(String);

impl FromStr for RateUrl {
    type Err = RateError;

    fn from_str(url: &str) -> Result<Self, RateError> {
        match Client::open(url) {
            Ok(_) => Ok(Self(url.to_owned())),
            // The client's own words may repeat the address.
            Err(_) => Err(RateError("not an address; write redis://user:password@host:6379/0".into())),
        }
    }
}

impl fmt::Debug for RateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RateUrl(…)")
    }
}

/// The store in Redis.
pub struct RedisRates {
    redis: ConnectionManager,
    script: Script,
    /// Until when Redis is left alone, if it is.
    away: Mutex<Option<Instant>>,
    own: MemoryRates,
}

impl RedisRates {
    /// Quotas at this address. Connects when first asked, and anew whenever the connection breaks; Redis need not be up.
    /// While it is away, about `keys` keys are kept here. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// [`RateError`] where the client cannot be made of it.
    pub fn open(url: &RateUrl, keys: usize) -> Result<Self, RateError> {
        let client = Client::open(&*url.0).map_err(|e| RateError(e.to_string()))?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(REST))
            .set_response_timeout(Some(REST))
            .set_number_of_retries(1)
            .set_max_delay(ANSWER);
        let redis = ConnectionManager::new_lazy_with_config(client, config).map_err(|e| RateError(e.to_string()))?;
        let script = Script::new(include_str!("gcra.lua"));
        Ok(Self { redis, script, away: Mutex::default(), own: MemoryRates::new(keys) })
    }

    async fn ask(&self, key: &RateKey, quota: Quota) -> Result<Verdict, RedisError> {
        let mut asking = self.script.key(name(key));
        asking.arg(1e6 / f64::from(quota.per_second)).arg(quota.burst);
        let (wait, reset, remaining): (u64, u64, u32) = asking.invoke_async(&mut self.redis.clone()).await?;
        Ok(Verdict {
            wait: (wait > 0).then(|| Duration::from_micros(wait)),
            limit: quota.burst,
            remaining,
            reset: Duration::from_micros(reset),
        })
    }

    /// Whether Redis is to be asked now. Of the calls that come when its rest is over, one asks.
    fn to_be_asked(&self) -> bool {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match *away {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                *away = Some(Instant::now() + REST);
                true
            }
            None => true,
        }
    }

    /// Notes whether Redis answered; true when that is news.
    fn answered(&self, answered: bool) -> bool {
        let until = (!answered).then(|| Instant::now() + REST);
        let before = std::mem::replace(&mut *self.away.lock().unwrap_or_else(PoisonError::into_inner), until);
        before.is_some() == answered
    }
}

impl RateStore for RedisRates {
    fn take<'a>(&'a self, key: &'a RateKey, quota: Quota) -> BoxFuture<'a, Result<Verdict, RateError>> {
        Box::pin(async move {
            if !self.to_be_asked() {
                return self.own.take(key, quota).await;
            }
            let why = match timeout(ANSWER, self.ask(key, quota)).await {
                Ok(Ok(verdict)) => {
                    if self.answered(true) {
                        tracing::info!("rate limits are kept together with the other gateways again");
                    }
                    return Ok(verdict);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer in time".to_owned(),
            };
            if self.answered(false) {
                tracing::warn!(why, "the Redis of rate limits is away; this gateway keeps them by itself");
            }
            self.own.take(key, quota).await
        })
    }
}

/// One slot of a cluster each: keys have nothing to do with one another.
fn name(key: &RateKey) -> String {
    match key {
        RateKey::Subject(subject) => format!("sinew:rate:subject:{subject}"),
        RateKey::Address(address) => format!("sinew:rate:address:{address}"),
    }
}

impl fmt::Debug for RedisRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisRates")
    }
}
