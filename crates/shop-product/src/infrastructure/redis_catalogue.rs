//! The catalogue in Redis.
//!
//! A change is one script, which Redis runs alone: the product, its place in the index, its event and the answer for
//! repeats are written together or not at all. Keys share a hash tag, so that it also holds on a cluster.
//!
//! A Redis that was flushed, or replaced by an empty one, looks like an empty catalogue. So the first service that opens it
//! draws a generation, and whoever finds another one than it began with serves nothing more: wrong is worse than away. An
//! operator restores the data, or restarts the services to begin anew with what is there.

use super::record::{decode, encode, event, request_to_create, request_to_update};
use crate::domain::{Catalogue, Changes, Error, NewProduct, Page, Product, ProductId, Request};
use redis::{AsyncCommands, ErrorKind, RedisError, Script, aio::ConnectionManager};
use sha2::{Digest, Sha256};
use sinew_core::{Clock, planted};
use std::{fmt, sync::Arc};
use tokio::sync::Notify;
use uuid::Uuid;

/// How often an update starts again because another came between its read and its write.
const ATTEMPTS: u32 = 20;

/// How long answers are kept for repeats.
const KEPT: u64 = sinew_events::idempotency::KEPT.num_seconds().cast_unsigned();

const INDEX: &str = "{product}:index";
pub(super) const OUTBOX: &str = "{product}:outbox";
pub(super) const POSITION: &str = "{product}:outbox:position";
/// Tells this catalogue from another in the same place.
pub(super) const GENERATION: &str = "{product}:generation";

/// Products in Redis.
#[derive(Clone)]
pub struct RedisCatalogue {
    redis: ConnectionManager,
    change: Arc<Script>,
    clock: Arc<dyn Clock>,
    generation: Arc<str>,
    /// Wakes followers in this process.
    appended: Arc<Notify>,
}

enum Answer {
    Done(Product),
    /// The product is not at the version it was read at.
    Moved,
}

impl RedisCatalogue {
    /// Connects to `redis://…`; the connection is made anew whenever it breaks.
    pub async fn open(url: &str, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let client = redis::Client::open(url)?;
        let mut redis = client.get_connection_manager().await?;
        redis.set_nx::<_, _, ()>(GENERATION, Uuid::now_v7().to_string()).await?;
        let generation: String = redis.get(GENERATION).await?;
        let change = Arc::new(Script::new(include_str!("change.lua")));
        Ok(Self { redis, change, clock, generation: generation.into(), appended: Arc::default() })
    }

    /// Refuses whatever was read together with another generation than ours.
    pub(super) fn same(&self, generation: Option<&str>) -> Result<(), Error> {
        if generation == Some(&*self.generation) || planted!(FlushedCatalogueServed) { Ok(()) } else { Err(lost()) }
    }

    pub(super) fn connection(&self) -> ConnectionManager {
        self.redis.clone()
    }

    pub(super) fn appended(&self) -> &Notify {
        &self.appended
    }

    async fn change(&self, request: &Request, fingerprint: &[u8], product: &Product) -> Result<Answer, Error> {
        let event = event(product);
        let (outcome, kept): (String, Vec<u8>) = self
            .change
            .key(answer_key(request))
            .key(product_key(product.id))
            .key(INDEX)
            .key(OUTBOX)
            .key(POSITION)
            .key(GENERATION)
            .arg(fingerprint)
            .arg(KEPT)
            .arg(product.id.0.to_string())
            .arg(product.version - 1)
            .arg(encode(product)?)
            .arg(event.kind)
            .arg(event.schema)
            .arg(event.payload)
            .arg(event.time.timestamp_micros())
            .arg(event.traceparent.unwrap_or_default())
            .arg(Uuid::now_v7().to_string())
            .arg(&*self.generation)
            .invoke_async(&mut self.redis.clone())
            .await?;
        if outcome == "done" {
            self.appended.notify_waiters();
        }
        match outcome.as_str() {
            "done" | "repeat" => Ok(Answer::Done(decode(&kept)?)),
            "reused" => Err(Error::KeyReused),
            "lost" => Err(lost()),
            _ => Ok(Answer::Moved),
        }
    }

    /// The answer to a repeat, before anything is looked at that may have changed since.
    async fn repeated(&self, request: &Request, fingerprint: &[u8]) -> Result<Option<Product>, Error> {
        let kept: (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.redis.clone().hmget(answer_key(request), &["fingerprint", "product"]).await?;
        match kept {
            (Some(first), Some(product)) if first == fingerprint => decode(&product).map(Some),
            (Some(_), _) => Err(Error::KeyReused),
            (None, _) => Ok(None),
        }
    }
}

impl Catalogue for RedisCatalogue {
    async fn create(&self, request: &Request, product: &NewProduct) -> Result<Product, Error> {
        let fingerprint = fingerprint("CreateProduct", &request_to_create(product));
        let product = Product::new(product, sinew_sql::now(&*self.clock));
        match self.change(request, &fingerprint, &product).await? {
            Answer::Done(product) => Ok(product),
            Answer::Moved => Err(Error::Internal("a new product's id is taken".into())),
        }
    }

    async fn update(&self, request: &Request, id: ProductId, changes: &Changes) -> Result<Product, Error> {
        let fingerprint = fingerprint("UpdateProduct", &request_to_update(id, changes));
        for _ in 0..ATTEMPTS {
            if let Some(product) = self.repeated(request, &fingerprint).await? {
                return Ok(product);
            }
            let product = self.get(id).await?.changed(changes, sinew_sql::now(&*self.clock))?;
            if let Answer::Done(product) = self.change(request, &fingerprint, &product).await? {
                return Ok(product);
            }
        }
        Err(Error::Unavailable("too many changes of one product at once".into()))
    }

    async fn get(&self, id: ProductId) -> Result<Product, Error> {
        let mut both = redis::pipe();
        both.get(GENERATION).hget(product_key(id), "product");
        let (generation, json): (Option<String>, Option<Vec<u8>>) = both.query_async(&mut self.redis.clone()).await?;
        self.same(generation.as_deref())?;
        decode(&json.ok_or(Error::NotFound)?)
    }

    async fn list(&self, page: Page) -> Result<Vec<Product>, Error> {
        let after = page.after.map_or("-".to_owned(), |id| format!("({}", id.0));
        let mut redis = self.redis.clone();
        let mut both = redis::pipe();
        both.get(GENERATION).zrangebylex_limit(INDEX, after, "+", 0, page.limit.cast_signed());
        let (generation, ids): (Option<String>, Vec<String>) = both.query_async(&mut redis).await?;
        self.same(generation.as_deref())?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut all = redis::pipe();
        for id in &ids {
            all.hget(format!("{{product}}:{id}"), "product");
        }
        // One that is not there any more is a flush that came in between.
        let found: Vec<Option<Vec<u8>>> = all.query_async(&mut redis).await?;
        found.iter().map(|json| decode(json.as_deref().ok_or_else(lost)?)).collect()
    }
}

fn lost() -> Error {
    Error::Unavailable("the product store lost its data: restore it, or restart this service to begin anew".into())
}

fn product_key(id: ProductId) -> String {
    format!("{{product}}:{}", id.0)
}

fn answer_key(request: &Request) -> String {
    // The length keeps one caller's name and key from looking like another's.
    format!("{{product}}:answer:{}:{}:{}", request.caller.0.len(), request.caller.0, request.key)
}

fn fingerprint(method: &str, request: &[u8]) -> Vec<u8> {
    Sha256::new().chain_update(method).chain_update([0]).chain_update(request).finalize().to_vec()
}

impl fmt::Debug for RedisCatalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisCatalogue")
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::InvalidClientConfig | ErrorKind::UnexpectedReturnType => Self::Internal(error.into()),
            _ => Self::Unavailable(error.into()),
        }
    }
}
