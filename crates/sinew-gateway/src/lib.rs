//! The HTTP edge of the mesh.
//!
//! One port speaks REST over HTTP/1.1 and HTTP/2, and gRPC. Every route comes from the contracts: an rpc's
//! `google.api.http` annotation is its REST face, its `(sinew.auth.v1.access)` option says who may call it, and what is
//! INTERNAL does not exist here, by either protocol or by reflection. There is no route written by hand.
//!
//! ```no_run
//! # async fn example(mesh: sinew::Mesh, descriptors: &'static [u8]) -> Result<(), Box<dyn std::error::Error>> {
//! use sinew_gateway::{Gateway, GatewaySettings, MeshBackend};
//!
//! let settings = GatewaySettings::from_env()?;
//! let mut gateway = Gateway::builder(mesh.policies().clone(), MeshBackend::new(&mesh)).descriptors(descriptors).settings(&settings);
//! if let Some(verifier) = mesh.verifier() {
//!     gateway = gateway.verifier(verifier.clone());
//! }
//! let listener = tokio::net::TcpListener::bind(settings.listen).await?;
//! gateway.build()?.run(listener, sinew::shutdown_signal()).await;
//! # Ok(())
//! # }
//! ```

mod auth;
mod backend;
mod catalogue;
mod client_addr;
mod edge;
mod error;
mod gateway;
mod grpc;
mod headers;
mod keys;
mod limits;
mod observe;
mod problem;
mod rate;
mod reflection;
mod rest;
mod routes;
mod serve;
mod settings;
mod stack;
mod transcode;
mod unary;

pub use backend::{Backend, MeshBackend};
pub use client_addr::{Cidr, CidrError};
pub use error::BuildError;
pub use gateway::{Builder, Gateway};
pub use limits::Limits;
pub use rate::{Classes, LoadKey, MemoryRates, Quota, RateError, RateKey, RateStore, RateUrl, RedisRates, Verdict};
pub use routes::TemplateError;
pub use settings::{GatewaySettings, GatewaySettingsError};

use keys::JWKS_PATH;
