//! Clients and proxies of other makers, which run beside ours where they are installed (`cargo xtask` installs them).

pub(crate) mod envoy;
pub(crate) mod grpcio;
