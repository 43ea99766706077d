//! The domain's values as messages.

use crate::domain::Product;
use chrono::{DateTime, Utc};
use contracts::{product::v1 as proto, r#type::v1::Money};
use prost_types::Timestamp;

pub(crate) fn product(product: &Product) -> proto::Product {
    let price = Money { amount: product.price.minor_units(), currency: product.price.currency().code().to_owned() };
    proto::Product {
        product_id: product.id.0.to_string(),
        name: product.title.as_str().to_owned(),
        description: product.description.as_str().to_owned(),
        price: Some(price),
        version: product.version,
        created_at: Some(timestamp(product.created)),
        updated_at: Some(timestamp(product.updated)),
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
