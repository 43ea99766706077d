//! Every method that exists at the gateway: those that contracts mark as anything but INTERNAL.

use crate::error::BuildError;
use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MethodDescriptor};
use sinew_core::{
    Access, Idempotency, MethodKind, Policies, ServiceName,
    stats::{CallKey, CallStats, Registry, Side},
};
use std::{collections::HashMap, sync::Arc};

/// One method.
#[derive(Debug)]
pub(crate) struct Method {
    /// `/shop.order.v1.OrderService/PlaceOrder`.
    pub(crate) path: PathAndQuery,
    /// Who serves it.
    pub(crate) service: ServiceName,
    pub(crate) access: Access,
    pub(crate) unary: bool,
    pub(crate) descriptor: MethodDescriptor,
    /// The request's `idempotency_key`, where it has one and a repeat is harmless.
    pub(crate) key: Option<FieldDescriptor>,
    pub(crate) stats: Arc<CallStats>,
}

/// All of them, by path.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) pool: DescriptorPool,
    methods: HashMap<String, Arc<Method>>,
    /// What no contract knows, in one series: paths are the caller's to invent.
    pub(crate) other: Arc<CallStats>,
}

impl Catalogue {
    /// Joins policies and descriptors.
    pub(crate) fn build(policies: &Policies, descriptors: &[&[u8]]) -> Result<Self, BuildError> {
        let mut pool = DescriptorPool::new();
        for encoded in descriptors {
            pool.decode_file_descriptor_set(*encoded).map_err(BuildError::Descriptors)?;
        }
        let mut methods = HashMap::new();
        for (service, destination) in policies.destinations() {
            for name in &destination.grpc_services {
                let described = pool.get_service_by_name(name).ok_or_else(|| BuildError::NotDescribed((*name).to_owned()))?;
                for descriptor in described.methods() {
                    let path = format!("/{name}/{}", descriptor.name());
                    // What no policy knows is unmarked, and unmarked is INTERNAL.
                    let Some(policy) = policies.method(&path).filter(|p| p.access != Access::Internal) else { continue };
                    let uri = path.parse().map_err(|_| BuildError::NotDescribed(path.clone()))?;
                    let key = descriptor.input().get_field_by_name("idempotency_key");
                    let key =
                        key.filter(|f| f.kind() == Kind::String && !f.is_list() && policy.idempotency != Idempotency::Unknown);
                    let unary = policy.kind == Some(MethodKind::Unary);
                    let method = Method {
                        path: uri,
                        service: service.clone(),
                        access: policy.access,
                        unary,
                        descriptor,
                        key,
                        stats: stats(policy.path.clone()),
                    };
                    methods.insert(path, Arc::new(method));
                }
            }
        }
        Ok(Self { pool, methods, other: stats("other".into()) })
    }

    /// The method at a gRPC path.
    pub(crate) fn get(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path)
    }

    /// Every method, in order of path.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Method>> {
        let mut all: Vec<_> = self.methods.iter().collect();
        all.sort_by_key(|(path, _)| *path);
        all.into_iter().map(|(_, method)| method)
    }
}

fn stats(method: Arc<str>) -> Arc<CallStats> {
    Registry::global().calls(CallKey { side: Side::Server, service: "gateway".into(), method })
}
