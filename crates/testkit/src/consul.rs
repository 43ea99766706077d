//! A private Consul agent: `-dev`, everything in memory, on ports of its own.

use crate::{Program, Running, free_port, wait_for};
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// It elects itself within 0.2 s; the rest is for a machine busy with builds.
const START: Duration = Duration::from_secs(30);

/// A Consul agent of one test. A restart forgets everything, as a replaced agent does.
#[derive(Debug)]
pub struct Consul {
    agent: Running,
    port: u16,
    _folder: TempDir,
}

impl Consul {
    /// Starts an empty one and waits for its leader.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (port, grpc, server) = (free_port()?, free_port()?, free_port()?);
        let (lan, wan) = (free_port()?, free_port()?);
        // Blocked queries of cancelled watches keep their slots; the default of 200 is soon reached by tests.
        let config = format!(
            r#"{{"ports":{{"http":{port},"grpc":{grpc},"server":{server},"serf_lan":{lan},"serf_wan":{wan},"dns":-1}},
                "limits":{{"http_max_conns_per_client":5000}}}}"#
        );
        let file = folder.path().join("agent.json");
        std::fs::write(&file, config)?;
        let agent = Program::new("Consul", program(), folder.path().join("log"))
            .args(["agent", "-dev", "-bind", "127.0.0.1", "-config-file"])
            .args([&file])
            .start()
            .map_err(|e| e.context("Consul is not installed: `cargo xtask test` fetches it, SINEW_TEST_CONSUL names one"))?;
        let mut started = Self { agent, port, _folder: folder };
        started.ready().await?;
        Ok(started)
    }

    /// Waits until it has a leader: after a restart too.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        wait_for("Consul's leader", START, async || {
            self.agent.still_running().map_err(|e| e.to_string())?;
            match leader(self.port).await {
                Ok(answer) if answer.starts_with("HTTP/1.") && answer.contains(" 200 ") && !answer.trim_end().ends_with("\"\"") => {
                    Ok(())
                }
                Ok(answer) => Err(answer),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The process, to kill, freeze and restart. After a restart, wait for [`Consul::ready`].
    pub fn process(&mut self) -> &mut Running {
        &mut self.agent
    }
}

/// The one named, the one `cargo xtask test` fetched, or the one on the path.
fn program() -> PathBuf {
    let fetched = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/bin/consul"));
    std::env::var_os("SINEW_TEST_CONSUL")
        .map(PathBuf::from)
        .unwrap_or_else(|| if fetched.exists() { fetched } else { "consul".into() })
}

async fn leader(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /v1/status/leader HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
