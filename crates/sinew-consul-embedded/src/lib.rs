//! A one-machine agent that speaks the part of Consul's HTTP API that the mesh uses.
//!
//! It is the embedded default of `sinew up` and the registry of fast tests. What it answers, a real Consul answers too:
//! one conformance suite runs against both. It keeps nothing on disk, knows one node and no peers; whoever needs more
//! takes a real Consul, and nothing else changes.

mod agent;
mod answer;
mod definition;
mod http;
mod probe;
mod query;
mod state;

pub use agent::{Agent, Builder};
