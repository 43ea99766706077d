//! Private real servers, fault injection and waiting, for tests only.
//!
//! Everything started here listens on a free loopback port, keeps its files in a temporary folder, and ends by process
//! id when its value is dropped. What is not installed is an error that says what to install: a test never skips.

pub mod consul;

mod account;
mod grpcurl;
mod postgres;
mod process;
mod rabbitmq;
mod rabbitmq_cluster;
mod redis;
mod sinew;
mod wait;

pub use grpcurl::{Grpcurl, Reply};
pub use postgres::{Durability, Postgres};
pub use process::{Program, Running};
pub use rabbitmq::RabbitMq;
pub use rabbitmq_cluster::RabbitMqCluster;
pub use redis::Redis;
pub use sinew::{SinewProcess, Up};
pub use wait::{free_port, wait_for, wait_for_port};
