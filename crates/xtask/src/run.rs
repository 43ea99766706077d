//! Running programs, and how a chore fails.

use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// Why a chore failed, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    /// The answer is no: a test failed, the tree is not tidy.
    pub(crate) fn no(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Called wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 64, message: message.into() }
    }

    /// Something needed is not there.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self { code: 69, message: message.into() }
    }
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Cargo, as the one that runs us.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Shows a command, runs it, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::no(format!("`{shown}` ended with {status}"))),
        Err(error) => Err(Failure::missing(format!("`{shown}` cannot be started: {error}"))),
    }
}

/// Runs a command and passes on only those lines of its output.
pub(crate) fn lines(command: &mut Command, wanted: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let shown = shown(command);
    let cannot = |error: io::Error| Failure::missing(format!("`{shown}` cannot be run: {error}"));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(cannot)?;
    let output = child.stdout.take().map(BufReader::new);
    for line in output.into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(cannot)?;
        if wanted(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().map_err(cannot)?;
    if status.success() { Ok(()) } else { Err(Failure::no(format!("`{shown}` ended with {status}"))) }
}

/// With this PATH.
pub(crate) fn with<'a>(path: &OsStr, command: &'a mut Command) -> &'a mut Command {
    command.env("PATH", path)
}

/// Starts a stopwatch.
#[expect(clippy::disallowed_methods, reason = "a chore has no tokio, and no test pauses it")]
pub(crate) fn stopwatch() -> Instant {
    Instant::now()
}

/// Whether a command exists and succeeds; it says nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Where a program lies on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|p| p.is_file())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
