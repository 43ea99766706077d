//! Every product as an event: for consumers that are new, or too late for what is kept.

use super::{RedisCatalogue, SqlCatalogue, record::event};
use crate::domain::{Catalogue, Page, ProductId};
use sinew_core::BoxFuture;
use sinew_events::{NewEvent, Owned, PublicationError};
use uuid::Uuid;

impl Owned for SqlCatalogue {
    fn page(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>> {
        Box::pin(page(self, after, limit))
    }
}

impl Owned for RedisCatalogue {
    fn page(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>> {
        Box::pin(page(self, after, limit))
    }
}

async fn page(catalogue: &impl Catalogue, after: Option<Uuid>, limit: usize) -> Result<Vec<NewEvent<'static>>, PublicationError> {
    let products = catalogue.list(Page { after: after.map(ProductId), limit }).await;
    Ok(products.map_err(|error| PublicationError(error.into()))?.iter().map(event).collect())
}
