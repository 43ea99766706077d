//! What grpcurl sees: the public face, and nothing of the rest.

use crate::harness::{edge, framed, grpc_request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use prost::Message;
use prost_reflect::DescriptorPool;
use sinew_core::Access;
use std::collections::BTreeSet;
use tonic::body::Body;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest as Ask,
    server_reflection_response::MessageResponse as Told,
};

const BOTH: [&str; 2] = ["v1", "v1alpha"];

/// `None` for what is not there.
async fn ask(edge: &crate::harness::Edge, version: &str, question: Ask) -> Option<Told> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let (mut client, _driver) = edge.http2().await;
    let body = Body::new(Full::new(framed(&request.encode_to_vec())));
    let answer = client.send_request(grpc_request(&path, &[], body)).await.unwrap().into_body().collect().await.unwrap();
    let frame: Bytes = answer.to_bytes();
    let told = ServerReflectionResponse::decode(frame.get(5..)?).unwrap().message_response.unwrap();
    (!matches!(told, Told::ErrorResponse(_))).then_some(told)
}

#[tokio::test]
async fn services_without_a_public_rpc_are_not_listed() {
    let edge = edge().await;
    let of = |keep: fn(Access) -> bool| -> BTreeSet<String> {
        let services = contracts::POLICIES.iter().flat_map(|p| p.services);
        services.filter(|s| s.methods.iter().any(|m| keep(m.access))).map(|s| s.name.to_owned()).collect()
    };
    for version in BOTH {
        let Some(Told::ListServicesResponse(list)) = ask(&edge, version, Ask::ListServices(String::new())).await else { panic!() };
        let listed: BTreeSet<_> = list.service.into_iter().map(|s| s.name).filter(|n| !n.starts_with("grpc.")).collect();
        assert_eq!(listed, of(|access| access != Access::Internal), "{version}");
    }
}

#[tokio::test]
async fn a_services_file_has_only_its_public_methods_and_their_types_with_options() {
    let edge = edge().await;
    for version in BOTH {
        for service in contracts::POLICIES.iter().flat_map(|p| p.services) {
            let internal = |access| access == Access::Internal;
            let answer = ask(&edge, version, Ask::FileContainingSymbol(service.name.to_owned())).await;
            let Some(Told::FileDescriptorResponse(file)) = answer else {
                assert!(service.methods.iter().all(|m| internal(m.access)), "{} is hidden", service.name);
                continue;
            };
            let file = prost_types_file(&file.file_descriptor_proto[0]);
            let described = file.service.iter().find(|s| service.name.ends_with(s.name())).expect("the service");
            let shown: BTreeSet<_> = described.method.iter().map(|m| format!("/{}/{}", service.name, m.name())).collect();
            let public: BTreeSet<_> = service.methods.iter().filter(|m| !internal(m.access)).map(|m| m.path.to_owned()).collect();
            assert_eq!(shown, public);
            for hidden in service.methods.iter().filter(|m| internal(m.access)) {
                let request = format!("{}Request", hidden.path.rsplit('/').next().unwrap());
                assert!(!file.message_type.iter().any(|m| m.name() == request), "{request} is shown");
            }
            assert!(file.source_code_info.is_none());
        }
    }
}

#[tokio::test]
async fn every_file_that_is_shown_can_be_put_together_and_keeps_its_annotations() {
    let edge = edge().await;
    let mut pool = DescriptorPool::new();
    let mut wanted = vec!["shop/order/v1/order.proto".to_owned()];
    let mut files = Vec::new();
    while let Some(name) = wanted.pop() {
        let Some(Told::FileDescriptorResponse(file)) = ask(&edge, "v1", Ask::FileByFilename(name.clone())).await else {
            panic!("{name}")
        };
        for encoded in file.file_descriptor_proto {
            let file = prost_types_file(&encoded);
            wanted.extend(file.dependency.iter().filter(|d| !files.iter().any(|(n, _)| n == *d)).cloned());
            if !files.iter().any(|(n, _)| n == file.name()) {
                files.push((file.name().to_owned(), encoded));
            }
        }
    }
    // A set is files under field 1.
    let mut set = Vec::new();
    for (_, file) in &files {
        prost::encoding::bytes::encode(1, file, &mut set);
    }
    pool.decode_file_descriptor_set(&*set).expect("whole");
    let http = pool.get_extension_by_name("google.api.http").expect("annotations");
    let method = pool.get_service_by_name("shop.order.v1.OrderService").unwrap().methods().next().unwrap();
    assert!(method.options().has_extension(&http));
    assert!(pool.get_service_by_name("shop.inventory.v1.InventoryService").is_none());
}

fn prost_types_file(encoded: &[u8]) -> prost_types::FileDescriptorProto {
    prost_types::FileDescriptorProto::decode(encoded).unwrap()
}

#[tokio::test]
async fn health_is_served() {
    let edge = edge().await;
    let (status, _, message) = edge.grpc("/grpc.health.v1.Health/Check", &[], b"").await;
    assert_eq!((status.code(), &message[..]), (tonic::Code::Ok, &b"\x08\x01"[..]));
}
