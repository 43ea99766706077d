//! The atomics of what threads share without a lock. The modules that use these, and no others, are also compiled with loom's
//! instead, in `tests/loom`.

pub(crate) use std::sync::atomic;
