//! A private RabbitMQ node.

use crate::{Program, Running, free_port, wait_for};
use anyhow::Context;
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// 5.5 s on an idle machine; Erlang starts slowly when the cores are busy.
const START: Duration = Duration::from_secs(120);

/// A RabbitMQ node of one test. Its Erlang port mapper is private too, and ends with it.
#[derive(Debug)]
pub struct RabbitMq {
    // Dropped in this order: the node first.
    server: Running,
    _mapper: Running,
    port: u16,
    folder: TempDir,
}

impl RabbitMq {
    /// Starts an empty node.
    pub async fn start() -> anyhow::Result<Self> {
        let sbin = find_sbin().context("RabbitMQ is not installed: apt-get install rabbitmq-server")?;
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("rabbit.conf"), "loopback_users.guest = false\n")?;
        std::fs::write(at("plugins"), "[].\n")?;
        let (port, dist, epmd) = (free_port()?, free_port()?.to_string(), free_port()?.to_string());

        // In the foreground and ours: left to itself, the node would start one that outlives everything.
        let mapper =
            Program::new("epmd", "epmd", at("epmd.log")).args(["-port", &epmd]).env("ERL_EPMD_ADDRESS", "127.0.0.1").start()?;
        let server = Program::new("RabbitMQ", sbin.join("rabbitmq-server"), at("log"))
            // The script becomes the node, so that signals reach it.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_NODENAME", format!("t{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", dist)
            .env("ERL_EPMD_PORT", epmd)
            .env("HOME", folder.path())
            .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
            .env("RABBITMQ_LOG_BASE", at("logs"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbit"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .start()?;
        let mut started = Self { server, _mapper: mapper, port, folder };
        started.ready().await?;
        Ok(started)
    }

    /// Waits until it speaks AMQP: after a restart too.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        wait_for("RabbitMQ", START, async || {
            self.server.still_running().map_err(|e| e.to_string())?;
            greet(self.port).await.map_err(|e| e.to_string())
        })
        .await
    }

    /// `amqp://guest:guest@127.0.0.1:port/%2f`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Waits until this quorum queue would survive a kill. The broker answers a declaration before the queue's name is on
    /// disk, and does not start queues again whose names are not.
    pub async fn written_down(&self, queue: &str) -> anyhow::Result<()> {
        let node = format!("t{}@localhost", self.port);
        let names = self.folder.path().join("mnesia").join(&node).join("quorum").join(&node).join("names.dets");
        wait_for(&format!("the name of {queue} on disk"), START, async || {
            let names = std::fs::read(&names).map_err(|e| e.to_string())?;
            // Names go on with a dot (`order.user`, `order.user.dlq`): the whole one is wanted.
            let whole = |rest: &[u8]| rest.starts_with(queue.as_bytes()) && rest.get(queue.len()) != Some(&b'.');
            let there = (0..names.len()).any(|at| names.get(at..).is_some_and(whole));
            if there { Ok(()) } else { Err(format!("not among {} bytes", names.len())) }
        })
        .await
    }

    /// The process, to kill, freeze and restart. After a restart, wait for [`RabbitMq::ready`].
    pub fn process(&mut self) -> &mut Running {
        &mut self.server
    }
}

/// Sends the protocol header and waits for the first byte of the answer.
async fn greet(port: u16) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    stream.read_exact(&mut [0]).await.map(drop)
}

/// The real script: the wrapper on PATH insists on the package's own user.
fn find_sbin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/rabbitmq/lib").ok()?;
    versions.flatten().map(|v| v.path().join("sbin")).filter(|s| s.join("rabbitmq-server").exists()).max()
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn it_speaks_amqp() {
        let mut rabbit = super::RabbitMq::start().await.unwrap();
        rabbit.ready().await.unwrap();
    }
}
