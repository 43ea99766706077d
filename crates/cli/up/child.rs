//! One slot of the supervisor: a process that is kept running until it is asked to leave.

use crate::shutdown::PARENT_PIPE;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Long enough for 10 s of calls in flight and the registry's part of a drain.
const LEAVE: Duration = Duration::from_secs(20);

/// The first restart is quick: most crashes do not repeat.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// One that always crashes is tried twice a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Who ran this long has recovered: the next crash is a first one again.
const RECOVERED: Duration = Duration::from_secs(10);

/// What to run in a slot.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Its name, stable over restarts: `order-0`.
    pub(crate) instance: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) log: PathBuf,
}

/// What became of a slot so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its first process runs.
    Well,
    /// A process of it ended unasked, with this exit code; none after a signal, or when it could not be started.
    Fell { how: String, code: Option<i32> },
}

impl Slot {
    /// Keeps the process running until `leave`; then asks it to drain, and returns when it is gone.
    ///
    /// Dropping the future kills the process.
    pub(crate) async fn run(self, leave: CancellationToken, life: watch::Sender<Life>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let (how, code) = match self.start() {
                Err(error) => (format!("could not be started: {error}"), None),
                Ok(mut child) => {
                    // Taken out, because waiting for a child would close it.
                    let stdin = child.stdin.take();
                    tokio::select! {
                        biased;
                        () = leave.cancelled() => {
                            drop(stdin);
                            return self.see_off(child).await;
                        }
                        ended = child.wait() => match ended {
                            Ok(status) => (format!("ended with {status}"), status.code()),
                            Err(error) => (format!("was lost: {error}"), None),
                        },
                    }
                }
            };
            if started.elapsed() >= RECOVERED {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(log = %self.log.display(), "{} {how}; starting it again in {pause:?}", self.instance);
            life.send_replace(Life::Fell { how, code });
            tokio::select! {
                biased;
                () = leave.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .env(PARENT_PIPE, "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: Ctrl-C is for the supervisor, which drains in order.
            .process_group(0)
            .kill_on_drop(true);
        command.spawn()
    }

    /// The end of its stdin has asked the child to drain.
    async fn see_off(&self, mut child: Child) {
        if tokio::time::timeout(LEAVE, child.wait()).await.is_err() {
            tracing::warn!("{} did not leave within {LEAVE:?} and is killed", self.instance);
            if let Err(error) = child.kill().await {
                tracing::warn!("{} could not be killed: {error}", self.instance);
            }
        }
    }
}

/// The end of a log, for when a child cannot start.
pub(crate) fn last_lines(log: &Path) -> String {
    // What a program says last is why it ended.
    const LINES: usize = 8;
    let text = std::fs::read(log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(folder: &Path, script: &str) -> Slot {
        Slot {
            instance: "test-0".into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            log: folder.join("test-0.log"),
        }
    }

    async fn until(slot: &Slot, text: &str) {
        let limit = Duration::from_secs(10);
        testkit::wait_for(text, limit, async || {
            let log = std::fs::read_to_string(&slot.log).unwrap_or_default();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_child_is_asked_to_leave_by_the_end_of_its_stdin() {
        let folder = tempfile::tempdir().unwrap();
        let slot = slot(folder.path(), "echo here; cat; echo drained");
        let leave = CancellationToken::new();
        let (life, seen) = watch::channel(Life::Well);
        let running = tokio::spawn(slot.clone().run(leave.clone(), life));
        until(&slot, "here").await;
        leave.cancel();
        running.await.unwrap();
        until(&slot, "drained").await;
        assert_eq!(*seen.borrow(), Life::Well);
    }

    #[tokio::test]
    async fn a_child_that_falls_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let script = format!("if [ -e {0} ]; then echo second; cat; else touch {0}; exit 7; fi", mark.display());
        let slot = slot(folder.path(), &script);
        let leave = CancellationToken::new();
        let (life, mut seen) = watch::channel(Life::Well);
        let running = tokio::spawn(slot.clone().run(leave.clone(), life));
        seen.changed().await.unwrap();
        assert!(matches!(*seen.borrow(), Life::Fell { code: Some(7), .. }));
        until(&slot, "second").await;
        leave.cancel();
        running.await.unwrap();
    }
}
