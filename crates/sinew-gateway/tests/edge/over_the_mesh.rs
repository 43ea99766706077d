//! The production backend: the mesh's own channel to a generated server, which verifies the token once more.

use crate::harness::{Fake, admin, jwks, serve};
use contracts::product::v1::{
    CreateProductRequest, CreateProductResponse, GetProductRequest, GetProductResponse, ListProductsRequest, ListProductsResponse,
    Product, UpdateProductRequest, UpdateProductResponse,
    product_service_server::{ProductService, ProductServiceServer},
};
use serde_json::json;
use sinew::{Claims, Context, Discover, Endpoint, FixedKeys, FixedList, Mesh, ServiceName};
use sinew_gateway::{Gateway, MeshBackend};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet, time::timeout};
use tonic::{Request, Response, Status};

const LIMIT: Duration = Duration::from_secs(10);

struct Catalogue;

#[tonic::async_trait]
impl ProductService for Catalogue {
    async fn create_product(&self, request: Request<CreateProductRequest>) -> Result<Response<CreateProductResponse>, Status> {
        let claims = request.extensions().get::<Claims>().expect("verified again");
        assert_eq!(claims.sub, "root");
        assert!(Context::current().deadline.is_some(), "the method's policy gives the call its time");
        assert_eq!(request.get_ref().idempotency_key.len(), 36, "minted");
        let product = Product { product_id: "p1".into(), name: request.into_inner().name, ..Product::default() };
        Ok(Response::new(CreateProductResponse { product: Some(product) }))
    }
    async fn get_product(&self, _: Request<GetProductRequest>) -> Result<Response<GetProductResponse>, Status> {
        Err(Status::not_found("no such product"))
    }
    async fn update_product(&self, _: Request<UpdateProductRequest>) -> Result<Response<UpdateProductResponse>, Status> {
        panic!("a bug of the service")
    }
    async fn list_products(&self, _: Request<ListProductsRequest>) -> Result<Response<ListProductsResponse>, Status> {
        Ok(Response::new(ListProductsResponse::default()))
    }
}

#[tokio::test]
async fn rest_and_grpc_reach_a_service_of_the_mesh_and_its_absence_is_503() {
    let list = Arc::new(FixedList::new());
    let mesh = async |name: &str| {
        let discover: Arc<dyn Discover> = list.clone();
        let builder = Mesh::builder(name).policies(contracts::POLICIES).descriptors(contracts::DESCRIPTORS);
        builder.discover(discover).keys(Arc::new(FixedKeys(jwks()))).start().await.unwrap()
    };
    let (product, gateway) = (mesh("product").await, mesh("gateway").await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::new("product-0", "127.0.0.1", listener.local_addr().unwrap().port());
    let name = ServiceName::new("product").unwrap();
    list.set(&name, vec![endpoint]);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = JoinSet::new();
    serving
        .spawn(product.server().add_service(ProductServiceServer::new(Catalogue)).run_on(listener, async { drop(stopped.await) }));

    let builder = Gateway::builder(gateway.policies().clone(), MeshBackend::new(&gateway))
        .descriptors(contracts::DESCRIPTORS)
        .verifier(gateway.verifier().expect("keys were given").clone());
    let edge = serve(builder, Fake::default()).await;

    let created = timeout(LIMIT, edge.post("/api/v1/products", Some(&admin()), r#"{"name":"Lamp"}"#)).await.unwrap();
    assert_eq!((created.status.as_u16(), created.header("location")), (201, Some("/api/v1/products/p1")), "{created:?}");
    assert_eq!(created.json()["product"]["name"], "Lamp");
    let missing = edge.get("/api/v1/products/p2", None).await;
    assert_eq!((missing.status.as_u16(), &missing.problem()["detail"]), (404, &json!("no such product")));
    let (status, ..) = edge.grpc("/shop.product.v1.ProductService/ListProducts", &[], b"").await;
    assert_eq!(status.code(), tonic::Code::Ok);
    let broken = edge.http(http::Method::PATCH, "/api/v1/products/p1", &[("authorization", &admin())], "{}").await;
    assert_eq!(broken.status, 500);
    assert!(!broken.problem().to_string().contains("bug"));

    drop(stop);
    timeout(LIMIT, serving.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    list.set(&name, vec![]);
    let away = timeout(LIMIT, edge.get("/api/v1/products", None)).await.unwrap();
    assert_eq!(away.status, 503, "{away:?}");
    assert!(!away.problem()["detail"].as_str().unwrap().contains("127.0.0.1"));
}
