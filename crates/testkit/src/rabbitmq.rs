//! A private RabbitMQ node.

use crate::{Program, Running, free_port, wait_for};
use anyhow::Context;
use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// 5.5 s on an idle machine; Erlang starts slowly when the cores are busy.
pub(crate) const START: Duration = Duration::from_secs(120);

/// A RabbitMQ node of one test. Its Erlang port mapper is private too, and ends with it.
#[derive(Debug)]
pub struct RabbitMq {
    // Dropped in this order: the node first.
    node: Node,
    mapper: Mapper,
}

/// The Erlang port mapper of one test, and the folder that its nodes share, with their cookie.
#[derive(Debug)]
pub(crate) struct Mapper {
    _mapper: Running,
    port: String,
    folder: TempDir,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) server: Running,
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Mapper {
    /// In the foreground and ours: left to itself, a node would start one that outlives everything.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?.to_string());
        let log = folder.path().join("epmd.log");
        let mapper = Program::new("epmd", "epmd", log).args(["-port", &port]).env("ERL_EPMD_ADDRESS", "127.0.0.1").start()?;
        std::fs::write(folder.path().join("plugins"), "[].\n")?;
        let cookie = folder.path().join(".erlang.cookie");
        std::fs::write(&cookie, "of-one-test")?;
        // Erlang refuses one that others may read.
        std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400))?;
        Ok(Self { _mapper: mapper, port, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a node, and whoever talks to it, must be told.
    pub(crate) fn env(&self) -> [(&'static str, OsString); 2] {
        [("ERL_EPMD_PORT", self.port.clone().into()), ("HOME", self.folder().into())]
    }

    /// Starts a node with these lines of configuration; it takes seconds until it is [`Node::ready`].
    pub(crate) fn node(&self, port: u16, more: &str) -> anyhow::Result<Node> {
        let (sbin, dist, name) = (find_sbin()?, free_port()?.to_string(), name(port));
        let at = |name: &str| self.folder().join(name);
        let config = at(&format!("rabbit-{port}"));
        std::fs::write(config.with_extension("conf"), format!("loopback_users.guest = false\n{more}"))?;
        let program = Program::new("RabbitMQ", sbin.join("rabbitmq-server"), at(&format!("log-{port}")))
            // The script becomes the node, so that signals reach it.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_NODENAME", &name)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", dist)
            .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
            .env("RABBITMQ_LOG_BASE", at("logs"))
            .env("RABBITMQ_PID_FILE", at(&format!("pid-{port}")))
            .env("RABBITMQ_CONFIG_FILE", config)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
        let server = self.env().into_iter().fold(program, |program, (key, value)| program.env(key, value)).start()?;
        Ok(Node { server, name, port })
    }
}

impl Node {
    /// Waits until it speaks AMQP: after a restart too.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        wait_for("RabbitMQ", START, async || {
            self.server.still_running().map_err(|e| e.to_string())?;
            greet(self.port).await.map_err(|e| e.to_string())
        })
        .await
    }

    /// Waits until this quorum queue would survive a kill. The broker answers a declaration before the queue's name is on
    /// disk, and does not start queues again whose names are not.
    pub(crate) async fn written_down(&self, folder: &Path, queue: &str) -> anyhow::Result<()> {
        let names = folder.join("mnesia").join(&self.name).join("quorum").join(&self.name).join("names.dets");
        wait_for(&format!("the name of {queue} on disk"), START, async || {
            let names = std::fs::read(&names).map_err(|e| e.to_string())?;
            // Names go on with a dot (`order.user`, `order.user.dlq`): the whole one is wanted.
            let whole = |rest: &[u8]| rest.starts_with(queue.as_bytes()) && rest.get(queue.len()) != Some(&b'.');
            let there = (0..names.len()).any(|at| names.get(at..).is_some_and(whole));
            if there { Ok(()) } else { Err(format!("not among {} bytes", names.len())) }
        })
        .await
    }
}

impl RabbitMq {
    /// Starts an empty node.
    pub async fn start() -> anyhow::Result<Self> {
        let mapper = Mapper::start()?;
        let node = mapper.node(free_port()?, "")?;
        let mut started = Self { node, mapper };
        started.ready().await?;
        Ok(started)
    }

    /// Waits until it speaks AMQP: after a restart too.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        self.node.ready().await
    }

    /// `amqp://guest:guest@127.0.0.1:port/%2f`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.node.port)
    }

    /// Waits until this quorum queue would survive a kill.
    pub async fn written_down(&self, queue: &str) -> anyhow::Result<()> {
        self.node.written_down(self.mapper.folder(), queue).await
    }

    /// The process, to kill, freeze and restart. After a restart, wait for [`RabbitMq::ready`].
    pub fn process(&mut self) -> &mut Running {
        &mut self.node.server
    }
}

/// A node's name by its port.
pub(crate) fn name(port: u16) -> String {
    format!("t{port}@localhost")
}

/// Sends the protocol header and waits for the first byte of the answer.
async fn greet(port: u16) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    stream.read_exact(&mut [0]).await.map(drop)
}

/// The real script: the wrapper on PATH insists on the package's own user.
pub(crate) fn find_sbin() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten().map(|v| v.path().join("sbin"));
    let newest = versions.filter(|s| s.join("rabbitmq-server").exists()).max();
    newest.context("RabbitMQ is not installed: apt-get install rabbitmq-server")
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn it_speaks_amqp() {
        let mut rabbit = super::RabbitMq::start().await.unwrap();
        rabbit.ready().await.unwrap();
    }
}
