//! How far the catalogue's events are handed to a broker, in the catalogue's own Redis.

use super::redis_catalogue::RedisCatalogue;
use redis::{RedisError, Script, aio::ConnectionManager};
use sinew_core::{BoxFuture, Clock};
use sinew_events::{Checkpoint, CheckpointError, Lease, Reached};
use std::{fmt, sync::Arc, time::Duration};

/// Lease and position, as one hash.
const KEY: &str = "{product}:outbox:bus";

/// One hash, which scripts read and write.
pub(super) struct RedisCheckpoint {
    redis: ConnectionManager,
    claim: Script,
    under_epoch: Script,
    clock: Arc<dyn Clock>,
}

impl RedisCheckpoint {
    pub(super) fn new(catalogue: &RedisCatalogue, clock: Arc<dyn Clock>) -> Self {
        let (claim, under_epoch) = (Script::new(include_str!("claim.lua")), Script::new(include_str!("under_epoch.lua")));
        Self { redis: catalogue.connection(), claim, under_epoch, clock }
    }

    fn end_of(&self, lease: Duration) -> i64 {
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        sinew_sql::now(&*self.clock).timestamp_millis().saturating_add(lease)
    }

    /// Sets and deletes fields; false when the epoch is over.
    async fn write(&self, epoch: i64, fields: &[(&str, String)], gone: &[&str]) -> Result<bool, RedisError> {
        let mut writing = self.under_epoch.key(KEY);
        writing.arg(epoch).arg(fields.len());
        for (field, value) in fields {
            writing.arg(*field).arg(value);
        }
        for field in gone {
            writing.arg(*field);
        }
        writing.invoke_async(&mut self.redis.clone()).await
    }
}

impl Checkpoint for RedisCheckpoint {
    fn claim<'a>(&'a self, owner: &'a str, lease: Duration) -> BoxFuture<'a, Result<Option<Lease>, CheckpointError>> {
        Box::pin(async move {
            let now = sinew_sql::now(&*self.clock).timestamp_millis();
            let mut claiming = self.claim.key(KEY);
            claiming.arg(now).arg(self.end_of(lease)).arg(owner);
            let claimed: Option<(i64, Option<i64>)> =
                claiming.invoke_async(&mut self.redis.clone()).await.map_err(CheckpointError::new)?;
            Ok(claimed.map(|(epoch, position)| Lease { epoch, position, floor: 0 }))
        })
    }

    fn renew(&self, epoch: i64, lease: Duration) -> BoxFuture<'_, Result<bool, CheckpointError>> {
        Box::pin(async move {
            let until = [("until", self.end_of(lease).to_string())];
            self.write(epoch, &until, &[]).await.map_err(CheckpointError::new)
        })
    }

    fn advance(&self, epoch: i64, reached: Reached, lease: Duration) -> BoxFuture<'_, Result<bool, CheckpointError>> {
        Box::pin(async move {
            let fields = [
                ("position", reached.position.to_string()),
                ("head", reached.head.to_string()),
                ("until", self.end_of(lease).to_string()),
            ];
            self.write(epoch, &fields, &["trouble"]).await.map_err(CheckpointError::new)
        })
    }

    fn trouble<'a>(&'a self, epoch: i64, trouble: Option<&'a str>) -> BoxFuture<'a, Result<(), CheckpointError>> {
        Box::pin(async move {
            let written = match trouble {
                Some(trouble) => self.write(epoch, &[("trouble", trouble.to_owned())], &[]).await,
                None => self.write(epoch, &[], &["trouble"]).await,
            };
            written.map(drop).map_err(CheckpointError::new)
        })
    }

    fn release(&self, epoch: i64) -> BoxFuture<'_, Result<(), CheckpointError>> {
        Box::pin(async move { self.write(epoch, &[], &["owner"]).await.map(drop).map_err(CheckpointError::new) })
    }
}

impl fmt::Debug for RedisCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisCheckpoint")
    }
}
