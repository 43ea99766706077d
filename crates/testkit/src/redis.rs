//! A private Redis server.

use crate::{Program, Running, free_port, wait_for};
use anyhow::ensure;
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// It answers within milliseconds; the rest is for a machine busy with builds.
const START: Duration = Duration::from_secs(20);

/// A Redis server of one test.
#[derive(Debug)]
pub struct Redis {
    server: Running,
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// Starts an empty one, which keeps nothing on disk.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with("no").await
    }

    /// Starts an empty one, which a kill costs nothing.
    pub async fn start_durable() -> anyhow::Result<Self> {
        Self::start_with("yes").await
    }

    async fn start_with(append_only: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let dir = folder.path().display().to_string();
        let server = Program::new("Redis", "redis-server", folder.path().join("log"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", &dir])
            .args(["--save", "", "--appendonly", append_only, "--daemonize", "no"])
            .start()
            .map_err(|e| e.context("Redis is not installed: apt-get install redis-server"))?;
        let mut started = Self { server, port, folder };
        started.ready().await?;
        Ok(started)
    }

    /// Waits until it answers: after a restart too.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        wait_for("Redis", START, async || {
            self.server.still_running().map_err(|e| e.to_string())?;
            ping(self.port).await.map_err(|e| e.to_string())
        })
        .await
    }

    /// Forgets everything (FLUSHALL).
    pub async fn flush(&self) -> anyhow::Result<()> {
        self.command("FLUSHALL").await
    }

    /// Puts a copy of everything aside.
    pub async fn save(&self) -> anyhow::Result<()> {
        self.command("SAVE").await?;
        // Aside: a restart would read it.
        Ok(std::fs::rename(self.file("dump.rdb"), self.file("saved.rdb"))?)
    }

    /// Restarts it with what was put aside.
    pub async fn restore(&mut self) -> anyhow::Result<()> {
        self.server.kill()?;
        std::fs::copy(self.file("saved.rdb"), self.file("dump.rdb"))?;
        self.server.restart()?;
        self.ready().await?;
        Ok(std::fs::remove_file(self.file("dump.rdb"))?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn command(&self, command: &str) -> anyhow::Result<()> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).await?;
        ensure!(&answer == b"+OK", "{command} is answered {:?}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The process, to kill, freeze and restart. After a restart, wait for [`Redis::ready`].
    pub fn process(&mut self) -> &mut Running {
        &mut self.server
    }
}

async fn ping(port: u16) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    if &answer == b"+PONG" { Ok(()) } else { Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned())) }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn it_answers_again_after_a_kill() {
        let mut redis = super::Redis::start().await.unwrap();
        redis.process().restart().unwrap();
        redis.ready().await.unwrap();
    }

    #[tokio::test]
    async fn what_was_put_aside_comes_back_and_only_then() {
        let mut redis = super::Redis::start().await.unwrap();
        redis.command("SET a 1").await.unwrap();
        redis.save().await.unwrap();
        redis.flush().await.unwrap();
        // Only where there is nothing yet.
        redis.command("SET a 2 NX").await.unwrap();
        redis.restore().await.unwrap();
        assert!(redis.command("SET a 3 NX").await.is_err());
        redis.process().restart().unwrap();
        redis.ready().await.unwrap();
        redis.command("SET a 4 NX").await.unwrap();
    }
}
