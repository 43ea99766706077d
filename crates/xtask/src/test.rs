//! `cargo xtask test`: every test there is.

use crate::{
    run::{self, Failure, cargo, succeeds, with},
    servers, tidy,
};

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    // The cheapest first: it needs nothing but the sources.
    tidy::run()?;
    let path = servers::path()?;

    if succeeds(cargo().args(["nextest", "--version"])) {
        run::run(with(&path, cargo().args(["nextest", "run", "--workspace"]).args(args)))?;
        run::run(with(&path, cargo().args(["test", "--quiet", "--workspace", "--doc"])))
    } else {
        eprintln!("cargo-nextest is not installed: using `cargo test`, which is slower and says less");
        run::run(with(&path, cargo().args(["test", "--workspace"]).args(args)))
    }
}
