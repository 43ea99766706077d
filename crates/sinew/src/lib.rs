//! The mesh, linked.
//!
//! ```no_run
//! # async fn example() -> Result<(), sinew::Error> {
//! use sinew::Mesh;
//!
//! let mesh = Mesh::builder("order").from_env()?.start().await?;
//! let inventory = mesh.channel("inventory"); // goes into any generated client
//! mesh.server().run(sinew::shutdown_signal()).await?; // with .add_service(…) for each generated server
//! # Ok(())
//! # }
//! ```
//!
//! A channel is discovered, balanced, broken and retried; a server is registered, checked and drained. Settings are in
//! [`Settings`]; what is known of methods comes from the contracts crate's policies.

mod builder;
mod error;
mod mesh;
mod settings;
mod signal;
mod violations;

pub use builder::Builder;
pub use error::Error;
pub use mesh::{Mesh, MeshServer};
pub use settings::{Settings, SettingsError};
pub use signal::shutdown_signal;
pub use violations::Violations;

pub use sinew_client::{BreakerState, Channel, Config as ClientConfig, ConnectionState, DestinationStatus, EndpointStatus};
pub use sinew_consul::{Consul, Settings as ConsulSettings};
pub use sinew_core::{
    Clock, Connector, Context, Criticality, Discover, Endpoint, FixedList, Register, RegisterError, Registered, Registration, Rng,
    ServiceName, Standing, policy::ServicePolicy,
};
pub use sinew_server::{
    AdaptiveConcurrency, Claims, Draining, FileKeys, FixedKeys, FrameBudget, Gate, Jwk, JwkSet, KeyError, KeySource, Limits,
    Readiness, Role, TokenRules, Verifier,
};
