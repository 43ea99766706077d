//! One child process that a test owns: its log, its signals, its end.

use crate::wait_for;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// How to start a program; starting it again gives the same process anew.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    log: PathBuf,
}

impl Program {
    /// A program whose two outputs go to `log`, appended.
    pub fn new(name: &str, path: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self { name: name.to_owned(), path: path.into(), args: Vec::new(), env: Vec::new(), log: log.into() }
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Leaves a variable of the test's own environment out.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), None));
        self
    }

    /// Starts it.
    pub fn start(&self) -> anyhow::Result<Running> {
        let log = File::options().create(true).append(true).open(&self.log).with_context(|| format!("{}", self.log.display()))?;
        let mut command = Command::new(&self.path);
        command.args(&self.args).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let child = command.spawn().with_context(|| format!("cannot start {} ({})", self.name, self.path.display()))?;
        Ok(Running { program: self.clone(), child, ended: None })
    }
}

/// A running program. Dropping it kills it; a test that panics prints the end of its log.
#[derive(Debug)]
pub struct Running {
    program: Program,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where both its outputs go.
    pub fn log_path(&self) -> &Path {
        &self.program.log
    }

    /// What it wrote so far, both outputs.
    pub fn log(&self) -> String {
        std::fs::read(&self.program.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// What Ctrl-C sends (SIGINT).
    pub fn interrupt(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::INT)
    }

    /// Freezes it: its sockets stay open and nothing answers.
    pub fn freeze(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends a freeze.
    pub fn thaw(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it as a crash would (SIGKILL), and collects it.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if self.ended().is_none() {
            self.child.kill().with_context(|| format!("cannot kill {}", self.program.name))?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Kills what is left of it and starts it anew: same arguments, same folder, same ports.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        *self = self.program.start()?;
        Ok(())
    }

    /// Waits for its end.
    pub async fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("the end of {}", self.program.name);
        wait_for(&what, limit, async || self.ended().ok_or_else(|| "still running".to_owned())).await
    }

    /// Waits for a text in its log.
    pub async fn wait_for_log(&mut self, text: &str, limit: Duration) -> anyhow::Result<()> {
        let what = format!("{text:?} in the log of {}", self.program.name);
        wait_for(&what, limit, async || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(format!("ended: {:?}, log:\n{}", self.ended(), tail(&log))) }
        })
        .await
    }

    /// Fails with its log if it has ended.
    pub fn still_running(&mut self) -> anyhow::Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; its log:\n{}", self.program.name, tail(&self.log())),
        }
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // Only a child that was not collected: an id that is no longer ours may be somebody else's by now.
        self.still_running()?;
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.program.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of the log of {} ---\n{}", self.program.name, tail(&self.log()));
        }
        if self.ended().is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn tail(log: &str) -> String {
    // Enough for a start-up and a backtrace, little enough to read.
    const LINES: usize = 60;
    let lines: Vec<_> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

/// Whose child a process is.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces; the parent is the second field after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const SECOND: Duration = Duration::from_secs(5);

    fn shell(folder: &tempfile::TempDir, script: &str) -> Program {
        Program::new("sh", "/bin/sh", folder.path().join("log")).args(["-c", script])
    }

    #[tokio::test]
    async fn it_is_terminated_killed_and_restarted() {
        let folder = tempfile::tempdir().unwrap();
        let mut running =
            shell(&folder, "trap 'echo bye; exit 3' TERM; echo hello; while :; do read -r x || exit 4; done").start().unwrap();
        running.wait_for_log("hello", SECOND).await.unwrap();
        let first = running.pid();
        running.restart().unwrap();
        assert_ne!(running.pid(), first);
        running.kill().unwrap();
        assert_eq!(running.ended().and_then(|s| s.signal()), Some(9));
        assert!(running.terminate().is_err(), "a process that ended cannot be signalled");
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let running = shell(&folder, "exec cat").start().unwrap();
        let proc = PathBuf::from(format!("/proc/{}", running.pid()));
        assert!(proc.exists());
        drop(running);
        assert!(!proc.exists());
    }

    #[tokio::test]
    async fn the_log_of_a_process_that_ended_is_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut running = shell(&folder, "echo no such luck >&2; exit 7").start().unwrap();
        assert_eq!(running.wait(SECOND).await.unwrap().code(), Some(7));
        assert!(running.still_running().unwrap_err().to_string().contains("no such luck"));
    }
}
