//! The atomics and the lock of what threads share. The modules that use these, and no others, are also compiled with loom's
//! instead, in `tests/loom`.

pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
