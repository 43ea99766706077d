//! A service that is called.

use sinew::{Context, ServicePolicy};
use sinew_core::{Access, Idempotency, MethodKind, policy::GrpcService, policy::Method};
use sinew_proto::admin::v1::{
    GetInfoRequest, GetInfoResponse, ListDestinationsRequest, ListDestinationsResponse, admin_service_server::AdminService,
};
use tonic::{Request, Response, Status};

pub(crate) const POLICIES: &[ServicePolicy] = &[ServicePolicy {
    name: "callee",
    service_config: "{}",
    services: &[GrpcService {
        name: "sinew.admin.v1.AdminService",
        methods: &[Method {
            path: "/sinew.admin.v1.AdminService/GetInfo",
            kind: MethodKind::Unary,
            idempotency: Idempotency::NoSideEffects,
            access: Access::Internal,
        }],
    }],
}];

pub(crate) struct Callee;

#[tonic::async_trait]
impl AdminService for Callee {
    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        assert!(Context::current().deadline.is_some(), "the channel gives every unary call a deadline");
        Ok(Response::new(GetInfoResponse { service: "callee".into(), ..GetInfoResponse::default() }))
    }
    async fn list_destinations(&self, _: Request<ListDestinationsRequest>) -> Result<Response<ListDestinationsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
