//! Reflection and health of the gateway itself: what it shows is what it serves.
//!
//! The contracts' descriptors are cut down before reflection gets them: methods that are INTERNAL, services left without
//! any, messages that only those used, files that nothing needs. The cut is made on the encoded set read as a dynamic
//! message, because the typed one would lose every option.

use crate::{catalogue::Catalogue, error::BuildError};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FileDescriptor, Kind, MessageDescriptor, Value};
use std::collections::{BTreeSet, HashSet};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder;

const V1: &str = "grpc.reflection.v1.ServerReflection";
const V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";
const HEALTH: &str = "grpc.health.v1.Health";

/// The gateway's own gRPC services.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) routes: Routes,
    pub(crate) health: HealthReporter,
}

impl Own {
    pub(crate) fn build(catalogue: &Catalogue, descriptors: &[&[u8]]) -> Result<Self, BuildError> {
        let shown = visible(catalogue, descriptors)?;
        let services: BTreeSet<_> = catalogue.iter().map(|m| m.descriptor.parent_service().full_name().to_owned()).collect();
        let builder = || {
            let set = Builder::configure()
                .register_encoded_file_descriptor_set(&shown)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // Errors carry google.rpc details as Any: tools look their types up here to show them.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
            services.iter().fold(set, |set, name| set.with_service_name(name)).with_service_name(HEALTH)
        };
        let v1 = builder().with_service_name(V1).build_v1().map_err(BuildError::Reflection)?;
        let v1alpha = builder().with_service_name(V1ALPHA).build_v1alpha().map_err(BuildError::Reflection)?;
        let (health, served) = tonic_health::server::health_reporter();
        Ok(Self { routes: Routes::new(v1).add_service(v1alpha).add_service(served).prepare(), health })
    }

    /// Whether the path is one of these services'.
    pub(crate) fn serves(&self, path: &str) -> bool {
        let service = path.strip_prefix('/').and_then(|p| p.split_once('/')).map(|(service, _)| service);
        service.is_some_and(|s| [V1, V1ALPHA, HEALTH].contains(&s))
    }
}

/// The encoded descriptor set of what the catalogue holds.
pub(crate) fn visible(catalogue: &Catalogue, descriptors: &[&[u8]]) -> Result<Vec<u8>, BuildError> {
    let methods: HashSet<_> = catalogue.iter().map(|m| m.descriptor.full_name().to_owned()).collect();
    let (mut types, mut files) = (HashSet::new(), HashSet::new());
    for method in catalogue.iter() {
        reach(&method.descriptor.input(), &mut types);
        reach(&method.descriptor.output(), &mut types);
        import(&method.descriptor.parent_service().parent_file(), &mut files);
    }
    let pool = with_descriptor_types(&catalogue.pool);
    let set = pool.get_message_by_name("google.protobuf.FileDescriptorSet").ok_or(BuildError::Missing("descriptor.proto"))?;
    let mut out = DynamicMessage::new(set.clone());
    let mut done = HashSet::new();
    for encoded in descriptors {
        let mut all = DynamicMessage::decode(set.clone(), *encoded).map_err(|e| BuildError::NotDescribed(e.to_string()))?;
        let Some(Value::List(all)) = all.take_field_by_name("file") else { continue };
        for mut file in all {
            let Some(inside) = file.as_message_mut() else { continue };
            let name = text(inside, "name");
            if files.contains(&name) && done.insert(name) {
                cut(inside, &methods, &types);
                if let Some(kept) = out.get_field_by_name_mut("file").and_then(Value::as_list_mut) {
                    kept.push(file);
                }
            }
        }
    }
    Ok(out.encode_to_vec())
}

/// Takes out of one file what nobody may see.
fn cut(file: &mut DynamicMessage, methods: &HashSet<String>, types: &HashSet<String>) {
    let package = text(file, "package");
    let full = |name: &str| if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") };
    let had_services = retain(file, "service", |_| true) > 0;
    retain(file, "service", |service| {
        let service_name = full(&text(service, "name"));
        retain(service, "method", |method| methods.contains(&format!("{service_name}.{}", text(method, "name")))) > 0
    });
    // Files of types alone are there because another file imports them, and stay whole.
    if had_services {
        for kind in ["message_type", "enum_type"] {
            retain(file, kind, |inner| {
                let name = full(&text(inner, "name"));
                types.iter().any(|t| t.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
            });
        }
    }
    // Comments are addressed by position, and positions have changed; those on what was cut must not be seen either.
    file.clear_field_by_name("source_code_info");
}

/// Keeps the elements of a repeated message field that `keep` says; gives how many there are then.
fn retain(message: &mut DynamicMessage, name: &str, mut keep: impl FnMut(&mut DynamicMessage) -> bool) -> usize {
    let Some(list) = message.get_field_by_name_mut(name).and_then(Value::as_list_mut) else { return 0 };
    list.retain_mut(|value| value.as_message_mut().is_some_and(&mut keep));
    list.len()
}

fn text(message: &DynamicMessage, name: &str) -> String {
    message.get_field_by_name(name).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn reach(message: &MessageDescriptor, types: &mut HashSet<String>) {
    if !types.insert(message.full_name().to_owned()) {
        return;
    }
    for field in message.fields() {
        match field.kind() {
            Kind::Message(inner) => reach(&inner, types),
            Kind::Enum(inner) => {
                types.insert(inner.full_name().to_owned());
            }
            _ => {}
        }
    }
}

fn import(file: &FileDescriptor, files: &mut HashSet<String>) {
    if files.insert(file.name().to_owned()) {
        file.dependencies().for_each(|f| import(&f, files));
    }
}

/// Contracts with options import `descriptor.proto`; where one does not, the well-known pool has it.
fn with_descriptor_types(pool: &DescriptorPool) -> DescriptorPool {
    let known = pool.get_message_by_name("google.protobuf.FileDescriptorSet").is_some();
    if known { pool.clone() } else { DescriptorPool::global() }
}
