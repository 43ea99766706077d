//! Vocabulary and ports of the mesh.
//!
//! Everything here is a plain value, a pure function or a trait: this crate opens no socket, reads no file and
//! spawns no task. The crates around it meet in these words, so that each can be replaced or simulated alone.

pub mod classify;
pub mod context;
pub mod criticality;
pub mod failpoint;
pub mod fault_injection;
pub mod planted;
pub mod policy;
pub mod service_config;
pub mod stats;
pub mod trace;

mod chain;
mod clock;
mod connector;
mod discover;
mod endpoint;
mod name;
mod register;
mod rng;

pub use chain::chain;
pub use clock::{Clock, SystemClock};
pub use connector::{BoxIo, Connector, Io};
pub use context::Context;
pub use criticality::Criticality;
pub use discover::{Discover, FixedList, Snapshot, State};
pub use endpoint::{Endpoint, Health};
pub use name::{InvalidName, ServiceName};
pub use policy::{Access, Idempotency, MethodKind, Policies};
pub use register::{Register, RegisterError, Registered, Registration, Standing};
pub use rng::{Rng, SharedRng};

/// A boxed future: what the object-safe ports return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
