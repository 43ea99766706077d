//! The rpcs: check what came, ask the catalogue, answer.

use super::wire;
use crate::domain::{
    Caller, Catalogue, Changes, Description, Money, MoneyError, NewProduct, Page, ProductId, Request as Keyed, Title,
};
use contracts::{
    product::v1::{
        CreateProductRequest, CreateProductResponse, GetProductRequest, GetProductResponse, ListProductsRequest,
        ListProductsResponse, UpdateProductRequest, UpdateProductResponse, product_service_server::ProductService,
    },
    r#type::v1::Money as MoneyMessage,
};
use sinew::Claims;
use sinew::Violations;
use tonic::{Extensions, Request, Response, Status};

/// `shop.product.v1.ProductService` over a catalogue.
#[derive(Debug, Clone)]
pub struct Api<C> {
    catalogue: C,
}

impl<C: Catalogue> Api<C> {
    /// Over this catalogue.
    pub fn new(catalogue: C) -> Self {
        Self { catalogue }
    }
}

#[tonic::async_trait]
impl<C: Catalogue> ProductService for Api<C> {
    async fn create_product(&self, request: Request<CreateProductRequest>) -> Result<Response<CreateProductResponse>, Status> {
        let caller = caller(request.extensions());
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let title = bad.valid("name", Title::new(&request.name));
        let description = bad.valid("description", Description::new(&request.description));
        let price = price(&mut bad, request.price.unwrap_or_default());
        bad.check()?;
        let (Some(title), Some(description), Some(price)) = (title, description, price) else {
            return Err(Status::internal("a bad field was let through"));
        };
        let keyed = Keyed { key: request.idempotency_key, caller };
        let product = self.catalogue.create(&keyed, &NewProduct { title, description, price }).await?;
        Ok(Response::new(CreateProductResponse { product: Some(wire::product(&product)) }))
    }

    async fn get_product(&self, request: Request<GetProductRequest>) -> Result<Response<GetProductResponse>, Status> {
        let mut bad = Violations::default();
        let id = ProductId(bad.id("product_id", &request.get_ref().product_id));
        bad.check()?;
        let product = self.catalogue.get(id).await?;
        Ok(Response::new(GetProductResponse { product: Some(wire::product(&product)) }))
    }

    async fn update_product(&self, request: Request<UpdateProductRequest>) -> Result<Response<UpdateProductResponse>, Status> {
        let caller = caller(request.extensions());
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let id = ProductId(bad.id("product_id", &request.product_id));
        if request.version < 0 {
            bad.add("version", "must not be negative");
        }
        let changes = Changes {
            version: (request.version > 0).then_some(request.version),
            title: request.name.and_then(|text| bad.valid("name", Title::new(&text))),
            description: request.description.and_then(|text| bad.valid("description", Description::new(&text))),
            price: request.price.and_then(|money| price(&mut bad, money)),
        };
        bad.check()?;
        let keyed = Keyed { key: request.idempotency_key, caller };
        let product = self.catalogue.update(&keyed, id, &changes).await?;
        Ok(Response::new(UpdateProductResponse { product: Some(wire::product(&product)) }))
    }

    async fn list_products(&self, request: Request<ListProductsRequest>) -> Result<Response<ListProductsResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let size = bad.page_size(request.page_size);
        let after = bad.page_token(&request.page_token).map(ProductId);
        bad.check()?;
        // One more than asked for tells whether a page follows.
        let mut found = self.catalogue.list(Page { after, limit: size + 1 }).await?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = found.last().filter(|_| more).map(|last| last.id.0.to_string()).unwrap_or_default();
        Ok(Response::new(ListProductsResponse { products: found.iter().map(wire::product).collect(), next_page_token }))
    }
}

/// Whose idempotency keys these are. Without a token it is the mesh itself.
fn caller(extensions: &Extensions) -> Caller {
    Caller(extensions.get::<Claims>().map_or_else(|| "mesh".to_owned(), |claims| claims.sub.clone()))
}

/// The price; none after a violation.
fn price(bad: &mut Violations, message: MoneyMessage) -> Option<Money> {
    let money = Money::new(message.amount, &message.currency);
    if let Err(error) = money {
        let field = match error {
            MoneyError::Amount => "price.amount",
            MoneyError::Currency => "price.currency",
        };
        bad.add(field, error);
    }
    money.ok()
}
