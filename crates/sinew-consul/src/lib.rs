//! Consul as the registry of the mesh: the only crate that knows its HTTP API.
//!
//! [`Settings`] come from Consul's own environment variables; a [`Consul`] made of them discovers and registers.

mod answer;
mod api;
mod catalogue;
mod consul;
mod endpoints;
mod registrar;
mod settings;
mod watch;

pub use api::ApiError;
pub use catalogue::{CheckResult, Instance, Service};
pub use consul::{AgentInfo, Consul, ConsulError};
pub use settings::{Settings, SettingsError};
