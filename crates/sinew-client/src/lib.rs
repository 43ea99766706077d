//! The tower stack that turns a service name into a channel.
//!
//! [`Client`] watches who serves a name, keeps connections to them and hands out [`Channel`]s; a channel is a
//! `tower::Service` over HTTP requests, so any generated tonic client runs on it. What happens to a call, layer by
//! layer, is written in `stack.rs`; each layer is one module.

mod backoff;
mod balance;
mod breaker;
mod call;
mod channel;
mod client;
mod config;
mod connection;
mod deadline;
mod describe;
mod destination;
mod ending;
mod endpoint;
mod error;
mod fault;
mod headers;
mod latency;
#[cfg(test)]
mod latency_tests;
mod message_limit;
mod method;
mod observe;
mod outlier;
mod places;
mod request_body;
mod retry;
mod snapshot;
mod stack;
mod sync;

pub use balance::Unavailable;
#[doc(hidden)]
pub use balance::{Crowd, next_snapshot};
pub use channel::{Channel, ResponseBody, ResponseFuture};
pub use client::{Client, Ports};
pub use config::{BreakerConfig, Config, ConfigError, ConnectionConfig, FailureRate, LimitsConfig, LocalityConfig, RetryConfig};
pub use connection::TcpConnector;
pub use describe::{BreakerState, ConnectionState, DestinationStatus, EndpointStatus};
pub use error::Error;
