//! One command starts everything, quickly, and takes everything down with it.

use crate::{
    on_both_registries,
    world::{Kind, Registry, SERVICES, SOON},
};
use anyhow::{Context, ensure};
use std::time::Duration;
use testkit::{SinewProcess, wait_for};

on_both_registries!(one_command_starts_the_system_and_ends_it a_supervisor_that_is_killed_leaves_no_child_behind);

/// `sinew up` on its own registry, or on a real Consul.
pub(crate) async fn up(kind: Kind, env: &[(&str, &str)]) -> anyhow::Result<(SinewProcess, Option<Registry>, testkit::Up)> {
    let sinew = SinewProcess::new(env!("CARGO_BIN_EXE_sinew"))?;
    let sinew = env.iter().fold(sinew, |sinew, (key, value)| sinew.env(key, *value));
    let (sinew, registry) = match kind {
        Kind::Embedded => (sinew, None),
        Kind::Consul => {
            let registry = Registry::start(kind, &sinew).await?;
            (sinew.env("CONSUL_HTTP_ADDR", registry.address()), Some(registry))
        }
    };
    let up = sinew.up(&[]).await?;
    Ok((sinew, registry, up))
}

async fn one_command_starts_the_system_and_ends_it(kind: Kind) -> anyhow::Result<()> {
    let (sinew, _registry, mut up) = up(kind, &[]).await?;
    let log = up.process().log();
    let seconds = log.split("ready in ").nth(1).and_then(|rest| rest.split_whitespace().next()).context("no time in the log")?;
    ensure!(seconds.parse::<f64>()? <= 5.0, "ready only after {seconds} s");

    let services = sinew.json(&["services", "--consul", &up.consul]).await?;
    for service in SERVICES {
        let instances = services.as_array().into_iter().flatten().filter(|i| i["service"] == *service && i["health"] == "passing");
        let versions: Vec<_> = instances.map(|i| i["version"].as_str().unwrap_or_default().to_owned()).collect();
        ensure!(versions == [env!("CARGO_PKG_VERSION"); 2], "{service}: {services}");
    }

    let second = sinew.output(&["up", "--data-dir", &sinew.data().display().to_string()]).await?;
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(second.status.code() == Some(69) && told.contains("--data-dir"), "{told}");

    let first = up.child("order", "order-0")?;
    let pid = i32::try_from(first).ok().and_then(rustix::process::Pid::from_raw).context("a process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    up.replaced("order", "order-0", first, SOON).await?;

    up.process().interrupt()?;
    let status = up.process().wait(2 * SOON).await?;
    ensure!(status.success(), "ended with {status}:\n{}", up.process().log());
    ensure!(up.child("inventory", "inventory-0").is_err(), "a child outlived its supervisor");
    Ok(())
}

async fn a_supervisor_that_is_killed_leaves_no_child_behind(kind: Kind) -> anyhow::Result<()> {
    let (_sinew, _registry, mut up) = up(kind, &[]).await?;
    let mut children = Vec::new();
    for service in SERVICES {
        children.push(up.child(service, &format!("{service}-1"))?);
    }
    up.process().kill()?;
    // A drain against a registry that is gone is bounded too.
    wait_for("the children to end by themselves", Duration::from_secs(40), async || {
        let left: Vec<_> = children.iter().filter(|pid| alive(**pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("still there: {left:?}")) }
    })
    .await
}

/// Nobody collects a child whose parent died but init, which may take its time: a zombie is dead.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
