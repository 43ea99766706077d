//! The built `sinew` program as a process of a test.

use crate::{Program, Running, wait_for};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};
use tempfile::TempDir;

/// A debug build on two busy cores is slow to start; what must be fast is measured, not assumed, by its own test.
const START: Duration = Duration::from_secs(60);

/// What the developer has set for himself must not steer a test.
const OWN: &[&str] = &[
    "AMQP_URL",
    "CONSUL_HTTP_ADDR",
    "CONSUL_HTTP_TOKEN",
    "DATABASE_URL",
    "PAYMENT_PROVIDER_URL",
    "PRODUCT_STORE_URL",
    "RATE_LIMIT_URL",
    "SINEW_FAILPOINT",
    "SINEW_JWKS",
];

/// Where `sinew` keeps its data and logs in one test, and how its processes are started.
#[derive(Debug)]
pub struct SinewProcess {
    bin: PathBuf,
    folder: TempDir,
    env: Vec<(String, String)>,
}

impl SinewProcess {
    /// Tests of the root package give `env!("CARGO_BIN_EXE_sinew")`.
    pub fn new(bin: impl Into<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self { bin: bin.into(), folder: tempfile::tempdir()?, env: Vec::new() })
    }

    /// Sets a variable for everything started from here on.
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.to_owned(), value.into()));
        self
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command of `sinew` as a process that stays; `name` names its log.
    pub fn program(&self, name: &str, args: &[&str]) -> Program {
        let program = Program::new(name, &self.bin, self.folder.path().join(format!("{name}.log"))).args(args);
        let program = OWN.iter().fold(program, Program::env_remove).env("SINEW_DATA_DIR", self.data());
        self.env.iter().fold(program, |program, (key, value)| program.env(key, value))
    }

    /// Runs a command of `sinew` to its end.
    pub async fn output(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = tokio::process::Command::new(&self.bin);
        for name in OWN {
            command.env_remove(name);
        }
        command.args(args).env("SINEW_DATA_DIR", self.data()).envs(self.env.iter().cloned()).kill_on_drop(true);
        tokio::time::timeout(START, command.output())
            .await
            .with_context(|| format!("sinew {args:?} does not end"))?
            .context("sinew")
    }

    /// Runs a command that must succeed, and gives what it wrote to stdout.
    pub async fn text(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.output(args).await?;
        ensure!(output.status.success(), "sinew {args:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Runs a command that must succeed with `-o json`.
    pub async fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.text(&[args, &["-o", "json"]].concat()).await?)?)
    }

    /// `sinew up` with ports of its own; returns once it says that it is ready.
    pub async fn up(&self, more: &[&str]) -> anyhow::Result<Up> {
        let consul = self.env.iter().find(|(key, _)| key == "CONSUL_HTTP_ADDR").map(|(_, value)| value.clone());
        let port = crate::free_port()?.to_string();
        let data = self.data().display().to_string();
        let gateway = format!("127.0.0.1:{}", crate::free_port()?);
        let mut args = vec!["up", "--data-dir", &data, "--gateway-addr", &gateway];
        if consul.is_none() {
            args.extend(["--consul-port", &port]);
        }
        args.extend(more);
        let mut process = self.program("up", &args).start()?;
        process.wait_for_log("ready in ", START).await?;
        let consul = consul.unwrap_or_else(|| format!("127.0.0.1:{port}"));
        Ok(Up { process, consul, gateway, logs: self.data().join("logs") })
    }
}

/// A running `sinew up`. Dropping it kills it; its children then end by themselves.
#[derive(Debug)]
pub struct Up {
    process: Running,
    /// `host:port` of its registry.
    pub consul: String,
    /// `host:port` of its gateway.
    pub gateway: String,
    logs: PathBuf,
}

impl Up {
    /// The supervisor.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// The log of one child: `order-0`.
    pub fn child_log(&self, child: &str) -> String {
        std::fs::read_to_string(self.logs.join(format!("{child}.log"))).unwrap_or_default()
    }

    /// The process id of one child, as the kernel tells the supervisor's children apart.
    pub fn child(&self, service: &str, instance: &str) -> anyhow::Result<u32> {
        let children = std::fs::read_dir("/proc")?.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        let ours = children.filter(|pid| crate::process::parent(*pid) == Some(self.process.pid()));
        let wanted = format!("SINEW_INSTANCE={instance}");
        let runs = |pid: &u32| {
            let read = |file: &str| std::fs::read(Path::new("/proc").join(pid.to_string()).join(file)).unwrap_or_default();
            read("cmdline").split(|b| *b == 0).any(|w| w == service.as_bytes())
                && read("environ").split(|b| *b == 0).any(|v| v == wanted.as_bytes())
        };
        ours.into_iter().find(runs).with_context(|| format!("the supervisor has no child {instance}"))
    }

    /// Waits for a child that is not `old` in the same slot.
    pub async fn replaced(&self, service: &str, instance: &str, old: u32, limit: Duration) -> anyhow::Result<u32> {
        wait_for(&format!("another {instance}"), limit, async || match self.child(service, instance) {
            Ok(new) if new != old => Ok(new),
            Ok(_) => Err("still the old one".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }
}
