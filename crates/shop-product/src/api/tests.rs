//! The rpcs on a SQLite file: what callers see, field by field.

use crate::{App, Config, Store};
use contracts::{
    product::v1::{product_service_server::ProductService, *},
    r#type::v1::Money,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

fn lamp() -> CreateProductRequest {
    let price = Some(Money { amount: 1_999, currency: "EUR".into() });
    CreateProductRequest { idempotency_key: "k".into(), name: "Lamp".into(), description: "Bright.\nWarm.".into(), price }
}

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn a_product_is_made_changed_found_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::build(Config::in_folder(folder.path())).await.unwrap();
    let api = app.api();
    let made = api.create_product(Request::new(lamp())).await.unwrap().into_inner().product.unwrap();
    let update = UpdateProductRequest {
        idempotency_key: "l".into(),
        product_id: made.product_id.clone(),
        version: 1,
        name: Some("Lantern".into()),
        ..Default::default()
    };
    let changed = api.update_product(Request::new(update.clone())).await.unwrap().into_inner().product.unwrap();
    assert_eq!((changed.name.as_str(), changed.version, &changed.price), ("Lantern", 2, &made.price));
    let stale = UpdateProductRequest { idempotency_key: "m".into(), ..update };
    assert_eq!(api.update_product(Request::new(stale)).await.unwrap_err().code(), Code::Aborted);
    let listed = api.list_products(Request::new(ListProductsRequest::default())).await.unwrap().into_inner();
    assert_eq!(listed.products, [changed]);
    let Store::Sql { db, .. } = app.store() else { panic!("not a SQL store") };
    let outbox = sinew_events::Outbox::default();
    while outbox.sequence(db, 100).await.unwrap() > 0 {}
    let told = outbox.read(db, 0, 100).await.unwrap();
    assert_eq!(told.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["product.created", "product.updated"]);
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let api = App::build(Config::in_folder(folder.path())).await.unwrap().api();
    let nothing = api.create_product(Request::new(CreateProductRequest::default())).await.unwrap_err();
    assert_eq!(fields(&nothing), ["idempotency_key", "name", "price.amount"]);
    let bad = CreateProductRequest { name: "x".repeat(201), description: "x".repeat(4_001), ..lamp() };
    assert_eq!(fields(&api.create_product(Request::new(bad)).await.unwrap_err()), ["name", "description"]);
    let unknown = GetProductRequest { product_id: "0190e5c7-5c1e-7000-8000-000000000000".into() };
    assert_eq!(api.get_product(Request::new(unknown)).await.unwrap_err().code(), Code::NotFound);
}
