//! A private Redis server, with nothing kept on disk.

use crate::{Program, Running, free_port, wait_for};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// It answers within milliseconds; the rest is for a machine busy with builds.
const START: Duration = Duration::from_secs(20);

/// A Redis server of one test.
#[derive(Debug)]
pub struct Redis {
    server: Running,
    port: u16,
    _folder: TempDir,
}

impl Redis {
    /// Starts an empty one.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let dir = folder.path().display().to_string();
        let server = Program::new("Redis", "redis-server", folder.path().join("log"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", &dir])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .start()
            .map_err(|e| e.context("Redis is not installed: apt-get install redis-server"))?;
        let mut started = Self { server, port, _folder: folder };
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
}
