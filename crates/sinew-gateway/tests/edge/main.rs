//! The gateway over real sockets, before a service that is this process: what passes, what does not, and what is said.

#![allow(missing_debug_implementations, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod access;
mod bad_input;
mod contracts_of_its_own;
mod harness;
mod over_the_mesh;
mod pass_through;
mod rates;
mod reflection;
mod rest;
