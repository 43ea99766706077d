//! The real grpcurl, as a user without our proto files would use it.

use anyhow::{Context, ensure};
use serde_json::Value;
use std::{path::PathBuf, time::Duration};

/// Longer than any deadline that a test gives its calls.
const LIMIT: Duration = Duration::from_secs(30);

/// A grpcurl that was found.
#[derive(Debug, Clone)]
pub struct Grpcurl {
    path: PathBuf,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Reply {
    /// gRPC's name of the status: `OK`, `NotFound`.
    pub code: String,
    /// The response, where the call succeeded.
    pub body: Value,
    /// Everything that it said of a failure.
    pub error: String,
}

impl Grpcurl {
    /// `SINEW_TEST_GRPCURL`, else where `cargo xtask test` puts it, else on PATH.
    pub fn find() -> anyhow::Result<Self> {
        let named = std::env::var_os("SINEW_TEST_GRPCURL").map(PathBuf::from);
        let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::iter::once(PathBuf::from(tools)).chain(std::env::split_paths(&path)).map(|dir| dir.join("grpcurl"));
        let path = named.into_iter().chain(places).find(|p| p.is_file());
        Ok(Self { path: path.context("grpcurl is not installed: `cargo xtask test` fetches it")? })
    }

    /// The services of a server, by its reflection.
    pub async fn list(&self, address: &str) -> anyhow::Result<Vec<String>> {
        Ok(self.text(&["-plaintext", address, "list"]).await?.lines().map(str::to_owned).collect())
    }

    /// What reflection tells of a symbol.
    pub async fn describe(&self, address: &str, symbol: &str) -> anyhow::Result<String> {
        self.text(&["-plaintext", address, "describe", symbol]).await
    }

    /// Calls `package.Service/Method` with a JSON request; a failed call is a reply too.
    pub async fn call(&self, address: &str, token: Option<&str>, method: &str, request: &Value) -> anyhow::Result<Reply> {
        let mut args = vec!["-plaintext".to_owned(), "-emit-defaults".to_owned(), "-d".to_owned(), request.to_string()];
        if let Some(token) = token {
            // For the call alone: reflection needs no token, and would refuse a bad one first.
            args.extend(["-rpc-header".to_owned(), format!("authorization: Bearer {token}")]);
        }
        args.extend([address.to_owned(), method.to_owned()]);
        let output = self.run(&args).await?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            let body = serde_json::from_slice(&output.stdout).context("grpcurl's answer is not JSON")?;
            return Ok(Reply { code: "OK".to_owned(), body, error });
        }
        let code = error.lines().find_map(|l| l.trim().strip_prefix("Code: ")).map(str::to_owned);
        Ok(Reply { code: code.with_context(|| format!("grpcurl could not call: {error}"))?, body: Value::Null, error })
    }

    async fn text(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.run(args).await?;
        ensure!(output.status.success(), "grpcurl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    async fn run(&self, args: &[impl AsRef<std::ffi::OsStr>]) -> anyhow::Result<std::process::Output> {
        let mut command = tokio::process::Command::new(&self.path);
        let output = command.args(args).kill_on_drop(true).output();
        tokio::time::timeout(LIMIT, output)
            .await
            .context("grpcurl does not end")?
            .with_context(|| format!("{}", self.path.display()))
    }
}
