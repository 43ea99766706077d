//! Clients and proxies of other makers, which run beside ours where they are installed (`cargo xtask` installs them).

pub(crate) mod envoy;
pub(crate) mod grpcio;

use anyhow::Context;
use std::ffi::OsString;

/// The program of those that are Rust, which are a package of their own: `crates/bench/peers`.
pub(crate) fn program() -> anyhow::Result<OsString> {
    std::env::var_os("BENCH_PEERS").context("BENCH_PEERS names no program with this peer; `cargo xtask bench channel` builds one")
}
