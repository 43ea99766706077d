//! `cargo xtask test`: every test there is.

use crate::{
    run::{self, Failure, cargo, succeeds},
    servers, tidy,
};
use std::{ffi::OsString, process::Command};

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    // The cheapest first: it needs nothing but the sources.
    tidy::run()?;
    let tools = servers::ensure()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(tools).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(path).map_err(|e| Failure::no(format!("PATH: {e}")))?;

    if succeeds(cargo().args(["nextest", "--version"])) {
        run::run(with(&path, cargo().args(["nextest", "run", "--workspace"]).args(args)))?;
        run::run(with(&path, cargo().args(["test", "--quiet", "--workspace", "--doc"])))
    } else {
        eprintln!("cargo-nextest is not installed: using `cargo test`, which is slower and says less");
        run::run(with(&path, cargo().args(["test", "--workspace"]).args(args)))
    }
}

fn with<'a>(path: &OsString, command: &'a mut Command) -> &'a mut Command {
    command.env("PATH", path)
}
