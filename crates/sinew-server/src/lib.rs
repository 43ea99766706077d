//! What every gRPC server of the mesh gets: bounded connections, health, reflection, authentication, deadlines,
//! metrics, registration and an orderly end.
//!
//! A service brings its tonic services; [`Server`] does the rest and returns when it has drained.

mod adaptive;
mod admin;
mod admission;
mod auth;
mod catch_panic;
mod deadline;
mod draining;
mod ending;
mod error;
mod flood;
mod frames;
mod io;
mod lifecycle;
mod limits;
mod listener;
mod observe;
mod readiness;
mod reflection;
mod registration;
mod serve;
mod server;
mod stack;
mod sync;
mod under_way;

/// What a service's answers can become; axum's trait under the server's name.
pub use axum::response::IntoResponse;

pub use adaptive::AdaptiveConcurrency;
pub use auth::{Claims, FileKeys, FixedKeys, Jwk, JwkSet, KeyError, KeySource, Role, TokenRules, Verifier};
pub use draining::Draining;
pub use error::Error;
pub use limits::{FrameBudget, Limits, LimitsError};
pub use listener::{Listener, PeerAddr};
pub use readiness::{Gate, Readiness};
pub use server::{Config, Identity, Server};
