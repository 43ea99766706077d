//! Whatever is asked wrongly is answered with one clear line and the right exit code, and nothing stays half-started.

use anyhow::ensure;
use std::net::TcpListener;
use testkit::{SinewProcess, free_port};

async fn refused(sinew: &SinewProcess, args: &[&str], code: i32, names: &[&str]) -> anyhow::Result<()> {
    let output = sinew.output(args).await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(code), "sinew {args:?} ended with {}: {told}", output.status);
    ensure!(output.stdout.is_empty(), "sinew {args:?} wrote data to stdout");
    for name in names {
        ensure!(told.contains(name), "sinew {args:?} does not name {name}: {told}");
    }
    ensure!(!told.contains("panicked"), "{told}");
    Ok(())
}

fn sinew() -> anyhow::Result<SinewProcess> {
    SinewProcess::new(env!("CARGO_BIN_EXE_sinew"))
}

#[tokio::test]
async fn wrong_usage_is_64() -> anyhow::Result<()> {
    let sinew = sinew()?;
    for args in [
        &["--nonsense"][..],
        &["nonsense"],
        &["run", "nonsense"],
        &["up", "--replicas", "0"],
        &["up", "--consul-port", "70000"],
        &["token", "--ttl", "1y"],
        &["token", "--user", "ada"],
        &["services", "-o", "xml"],
    ] {
        refused(&sinew, args, 64, &[]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn help_is_data() -> anyhow::Result<()> {
    ensure!(sinew()?.text(&["--help"]).await?.contains("up"));
    ensure!(sinew()?.text(&["--version"]).await?.contains(env!("CARGO_PKG_VERSION")));
    Ok(())
}

#[tokio::test]
async fn a_taken_port_names_its_flag() -> anyhow::Result<()> {
    let sinew = sinew()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let data = sinew.data().display().to_string();
    refused(&sinew, &["up", "--data-dir", &data, "--consul-port", &port], 69, &["--consul-port", &port]).await?;
    // Nothing is held: the same directory serves the next try.
    let free = free_port()?.to_string();
    let mut process = sinew.program("up", &["up", "--data-dir", &data, "--consul-port", &free]).start()?;
    process.wait_for_log("ready in ", std::time::Duration::from_secs(60)).await?;
    Ok(())
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_names_its_flag() -> anyhow::Result<()> {
    let sinew = sinew()?;
    std::fs::write(sinew.data(), "a file")?;
    let data = sinew.data().display().to_string();
    refused(&sinew, &["up", "--data-dir", &data], 69, &["--data-dir", &data]).await
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named() -> anyhow::Result<()> {
    let nowhere = format!("127.0.0.1:{}", free_port()?);
    let sinew = sinew()?.env("CONSUL_HTTP_ADDR", nowhere.clone());
    let data = sinew.data().display().to_string();
    refused(&sinew, &["up", "--data-dir", &data], 69, &[&nowhere, "CONSUL_HTTP_ADDR"]).await?;
    refused(&sinew, &["services"], 69, &[&nowhere]).await?;
    refused(&sinew, &["sagas", "list"], 69, &[&nowhere]).await
}

#[tokio::test]
async fn settings_that_cannot_be_honoured_are_named() -> anyhow::Result<()> {
    for (name, value) in [
        ("SINEW_LOG", "info,=,["),
        ("SINEW_LOG_FORMAT", "xml"),
        ("SINEW_LISTEN", "everywhere"),
        ("DATABASE_URL", "mysql://localhost/shop"),
    ] {
        refused(&sinew()?.env(name, value), &["run", "inventory"], 64, &[name]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn one_database_for_all_services_is_refused() -> anyhow::Result<()> {
    let sinew = sinew()?.env("DATABASE_URL", "postgres://localhost/shop");
    let (data, port) = (sinew.data().display().to_string(), free_port()?.to_string());
    refused(&sinew, &["up", "--data-dir", &data, "--consul-port", &port], 64, &["DATABASE_URL", "{service}"]).await
}
