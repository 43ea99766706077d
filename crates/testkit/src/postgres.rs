//! A private PostgreSQL server.

use crate::{Program, Running, account, free_port, wait_for};
use anyhow::{Context, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// Starting takes 0.6 s on an idle machine; crash recovery with everybody building takes longer.
const START: Duration = Duration::from_secs(60);

/// Whether a commit reaches the disk before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync=off`: fast, for functional tests.
    Fast,
    /// As in production: for crash tests and benchmarks.
    Real,
}

/// A PostgreSQL server of one test.
#[derive(Debug)]
pub struct Postgres {
    server: Running,
    port: u16,
    bin: PathBuf,
    _folder: TempDir,
}

impl Postgres {
    /// Starts one with an empty cluster.
    pub async fn start(durability: Durability) -> anyhow::Result<Self> {
        let bin = find_bin().context("PostgreSQL is not installed: apt-get install postgresql")?;
        let folder = tempfile::tempdir()?;
        account::give(folder.path(), "postgres")?;
        let data = folder.path().join("data");
        let mut init = as_postgres(&bin.join("initdb"));
        run(init.arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]))?;

        let port = free_port()?;
        let mut command = account::run_as("postgres");
        command.push(bin.join("postgres").display().to_string());
        let (path, args) = command.split_first().context("a command")?;
        let server = Program::new("PostgreSQL", path, folder.path().join("log"))
            .args(args)
            .args(["-D", &data.display().to_string(), "-p", &port.to_string(), "-k", &folder.path().display().to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=400"])
            .args(if durability == Durability::Fast { &["-c", "fsync=off"][..] } else { &[] })
            .start()?;
        let mut started = Self { server, port, bin, _folder: folder };
        started.ready().await?;
        Ok(started)
    }

    /// Waits until it takes queries: after a restart too.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let (bin, port) = (self.bin.join("pg_isready"), self.port.to_string());
        wait_for("PostgreSQL", START, async || {
            self.server.still_running().map_err(|e| e.to_string())?;
            let asked = tokio::process::Command::new(&bin).args(["-h", "127.0.0.1", "-p", &port]).output().await;
            match asked {
                Ok(answer) if answer.status.success() => Ok(()),
                Ok(answer) => Err(String::from_utf8_lossy(&answer.stdout).into_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    /// Kills it in the middle of whatever it does, starts it anew, and waits until it has recovered.
    pub async fn crash(&mut self) -> anyhow::Result<()> {
        let backends = children(self.server.pid());
        self.server.kill()?;
        // They notice by themselves, and hold the shared memory until then.
        wait_for("the end of PostgreSQL's backends", START, async || {
            let left: Vec<_> = backends.iter().filter(|pid| Path::new("/proc").join(pid.to_string()).exists()).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await?;
        self.server.restart()?;
        self.ready().await
    }

    /// Creates an empty database and tells its URL.
    pub fn database(&self, name: &str) -> anyhow::Result<String> {
        let mut create = Command::new(self.bin.join("createdb"));
        run(create.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", name]))?;
        Ok(self.url(name))
    }

    /// The URL of a database on it.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// One of the programs that come with it: `pgbench`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The process, to kill, freeze and restart. After a restart, wait for [`Postgres::ready`].
    pub fn process(&mut self) -> &mut Running {
        &mut self.server
    }
}

fn find_bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest = versions.flatten().map(|v| v.path().join("bin")).filter(|b| b.join("initdb").exists()).max();
    newest.or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).find(|p| p.join("initdb").exists()))
}

fn as_postgres(program: &Path) -> Command {
    let words = account::run_as("postgres");
    match words.split_first() {
        None => Command::new(program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    // Somewhere that the other user may stand in.
    let output = command.current_dir("/").output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The processes whose parent this is.
fn children(of: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| crate::process::parent(*pid) == Some(of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_survives_a_kill_with_its_databases() {
        let mut postgres = Postgres::start(Durability::Fast).await.unwrap();
        assert!(postgres.database("shop").unwrap().ends_with("/shop"));
        postgres.process().kill().unwrap();
        postgres.process().restart().unwrap();
        postgres.ready().await.unwrap();
        let twice = postgres.database("shop").unwrap_err().to_string();
        assert!(twice.contains("already exists"), "{twice}");
    }
}
