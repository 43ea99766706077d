//! `cargo xtask bench`: a benchmark, built as it would ship.

use crate::run::{self, Failure, cargo};

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    if args.is_empty() {
        return Err(Failure::usage(
            "cargo xtask bench <name> [arguments]: which benchmark? `channel`, `logins`, `events`, `relay` or `sagas`",
        ));
    }
    run::run(cargo().args(["run", "--quiet", "--release", "--package", "bench", "--"]).args(args))
}
