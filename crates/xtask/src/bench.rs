//! `cargo xtask bench`: a benchmark, built as it would ship.

use crate::{
    peers,
    run::{self, Failure, cargo},
};

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    if args.is_empty() {
        return Err(Failure::usage(
            "cargo xtask bench <name> [arguments]: which benchmark? `channel`, `pick`, `slow`, `faults`, `logins`, `events`, `drain`, `relay`, `sagas` or `orders`",
        ));
    }
    if args.first().is_some_and(|name| name == "orders") {
        // It starts the whole system, by the program that lies beside it.
        run::run(cargo().args(["build", "--quiet", "--release", "--package", "sinew-cli"]))?;
    }
    let mut bench = cargo();
    bench.args(["run", "--quiet", "--release", "--package", "bench", "--"]).args(args);
    run::run(peers::with(args, &mut bench))
}
