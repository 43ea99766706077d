//! A server as its callers, its registry and its operators see it, over real sockets.

#![allow(missing_debug_implementations, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod auth;
mod calls;
mod drain;
mod floods;
mod harness;
mod lifecycle;
mod limits;
mod overload;
