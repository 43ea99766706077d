//! A product as stores keep it, and what tells a repeat from another request.

use crate::{
    api::product as wire,
    domain::{Changes, Description, Error, Money, NewProduct, Product, ProductId, Title},
};
use chrono::{DateTime, Utc};
use contracts::product::v1::{ProductCreated, ProductUpdated};
use serde::{Deserialize, Serialize};
use sinew_events::NewEvent;
use uuid::Uuid;

/// A row, and the JSON kept for repeats and in Redis.
#[derive(sqlx::FromRow, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) product_id: Uuid,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) minor_units: i64,
    pub(super) currency: String,
    pub(super) version: i64,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
}

/// As JSON.
pub(super) fn encode(product: &Product) -> Result<Vec<u8>, Error> {
    let record = Record {
        product_id: product.id.0,
        title: product.title.as_str().to_owned(),
        description: product.description.as_str().to_owned(),
        minor_units: product.price.minor_units(),
        currency: product.price.currency().code().to_owned(),
        version: product.version,
        created_at: product.created,
        updated_at: product.updated,
    };
    serde_json::to_vec(&record).map_err(|error| Error::Internal(error.into()))
}

/// What [`encode`] wrote.
pub(super) fn decode(json: &[u8]) -> Result<Product, Error> {
    serde_json::from_slice::<Record>(json).map_err(|error| Error::Internal(error.into()))?.try_into()
}

/// Equal for equal requests only.
pub(super) fn request_to_create(new: &NewProduct) -> Vec<u8> {
    let (amount, currency) = (new.price.minor_units(), new.price.currency().code());
    serde_json::json!([new.title.as_str(), new.description.as_str(), amount, currency]).to_string().into_bytes()
}

/// Equal for equal requests only.
pub(super) fn request_to_update(id: ProductId, changes: &Changes) -> Vec<u8> {
    let title = changes.title.as_ref().map(Title::as_str);
    let description = changes.description.as_ref().map(Description::as_str);
    let price = changes.price.map(|price| (price.minor_units(), price.currency().code()));
    serde_json::json!([id.0.to_string(), changes.version, title, description, price]).to_string().into_bytes()
}

/// The event that tells of this version.
pub(super) fn event(product: &Product) -> NewEvent<'static> {
    let message = Some(wire(product));
    let (id, version, time) = (product.id.0, product.version, product.updated);
    match version {
        1 => NewEvent::new(id, version, "product.created", &ProductCreated { product: message }, time),
        _ => NewEvent::new(id, version, "product.updated", &ProductUpdated { product: message }, time),
    }
}

impl TryFrom<Record> for Product {
    type Error = Error;

    /// A price is not guessed at: a record that breaks the rules is an error, whoever wrote it.
    fn try_from(record: Record) -> Result<Self, Error> {
        let broken = |what: &str| Error::Internal(format!("product {}: {what}", record.product_id).into());
        Ok(Self {
            id: ProductId(record.product_id),
            title: Title::new(&record.title).map_err(|_| broken("title"))?,
            description: Description::new(&record.description).map_err(|_| broken("description"))?,
            price: Money::new(record.minor_units, &record.currency).map_err(|_| broken("price"))?,
            version: record.version,
            created: record.created_at,
            updated: record.updated_at,
        })
    }
}
