//! Server reflection, v1 and v1alpha: old tools speak only the second.

use crate::Error;
use tonic::service::Routes;
use tonic_reflection::server::Builder;

/// Adds both reflection services for exactly the services that this port serves.
pub(crate) fn add(routes: Routes, descriptors: &[&'static [u8]], names: &[String]) -> Result<Routes, Error> {
    let builder = || {
        // The encoded bytes, not prost's types: those would drop the options.
        let set = descriptors.iter().fold(Builder::configure(), |b, d| b.register_encoded_file_descriptor_set(d));
        let set = set.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        // Errors carry google.rpc details as Any: tools look their types up here to show them.
        let set = set.register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
        names.iter().fold(set, |b, name| b.with_service_name(name))
    };
    let v1 = builder().with_service_name("grpc.reflection.v1.ServerReflection").build_v1().map_err(Error::Reflection)?;
    let v1alpha =
        builder().with_service_name("grpc.reflection.v1alpha.ServerReflection").build_v1alpha().map_err(Error::Reflection)?;
    Ok(routes.add_service(v1).add_service(v1alpha))
}
