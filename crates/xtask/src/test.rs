//! `cargo xtask test`: every test there is.

use crate::{
    planted,
    run::{self, Failure, cargo, succeeds, with},
    servers, tidy,
};

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    // The cheapest first: it needs nothing but the sources.
    tidy::run()?;
    let path = servers::path()?;

    if succeeds(cargo().args(["nextest", "--version"])) {
        run::run(with(&path, cargo().args(["nextest", "run", "--workspace"]).args(args)))?;
        run::run(with(&path, cargo().args(["test", "--quiet", "--workspace", "--doc"])))?;
        // Not for who asks for some tests only.
        if args.is_empty() { planted::slice(&path) } else { Ok(()) }
    } else {
        eprintln!("cargo-nextest is not installed: using `cargo test`, which is slower and says less, and plants no bugs");
        run::run(with(&path, cargo().args(["test", "--workspace"]).args(args)))
    }
}
