//! The port to where products are kept.

use super::{Changes, Error, NewProduct, Product, ProductId};

/// Who asks: idempotency keys of different callers never meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub String);

/// Whose request it is and how its repeat is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// A repeat with the same key answers what the first one did.
    pub key: String,
    /// Whose key.
    pub caller: Caller,
}

/// A page in the order of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only ids after this one.
    pub after: Option<ProductId>,
    /// At most so many.
    pub limit: usize,
}

/// Keeps products. Each change is one atomic step with its event and its answer for repeats.
///
/// # Cancel safety
///
/// A dropped future has either changed everything or nothing; the same request may be sent again.
pub trait Catalogue: Send + Sync + 'static {
    /// Adds a product.
    fn create(&self, request: &Request, product: &NewProduct) -> impl Future<Output = Result<Product, Error>> + Send;

    /// Changes a product.
    fn update(&self, request: &Request, id: ProductId, changes: &Changes) -> impl Future<Output = Result<Product, Error>> + Send;

    /// One product.
    fn get(&self, id: ProductId) -> impl Future<Output = Result<Product, Error>> + Send;

    /// A page of products.
    fn list(&self, page: Page) -> impl Future<Output = Result<Vec<Product>, Error>> + Send;
}
