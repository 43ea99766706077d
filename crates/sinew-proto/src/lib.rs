//! Generated types, clients and servers of the `sinew.*` contracts, and of Google's HTTP annotations.

#[allow(missing_debug_implementations, unreachable_pub, clippy::all, clippy::unwrap_used, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/generated.rs"));
}

pub use generated::{
    google,
    sinew::{admin, auth, events, saga},
};

/// The encoded `FileDescriptorSet` of these contracts, options included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
