//! Generated types, clients, servers and policies of the shop's contracts. No logic.

use sinew_core::policy::{Access, GrpcService, Idempotency, Method, MethodKind, ServicePolicy};

#[allow(missing_debug_implementations, unreachable_pub, clippy::all, clippy::unwrap_used, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/generated.rs"));
}

pub use generated::shop::{inventory, order, payment, product, r#type, user};

include!(concat!(env!("OUT_DIR"), "/policies.rs"));

/// The encoded `FileDescriptorSet` of the shop's contracts, options included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
