//! A network for each server, in which packets can get lost: a namespace with one veth pair to our own.
//!
//! A hole is a wrong entry in both neighbour tables: packets go to a hardware address that nobody has, and are dropped where
//! they arrive. Neither end is told anything, as when a machine or a switch on the way dies; a link that is down, or a
//! firewall that rejects, would be noticed. Addresses are of 198.18.0.0/15, which RFC 2544 sets aside for benchmarks.

use anyhow::{Context, ensure};
use std::{net::IpAddr, path::Path, process::Command};

/// Before the id of the process that made it, in the names of namespaces and links.
const PREFIX: &str = "sinew-hole-";
const LINK: &str = "sh";
const NOBODY: &str = "02:00:00:00:00:fe";

/// The servers' networks; they are gone with this value.
#[derive(Debug)]
pub(super) struct Network(Vec<Namespace>);

#[derive(Debug)]
struct Namespace {
    name: String,
    link: String,
    /// Ours, and the server's.
    here: IpAddr,
    there: IpAddr,
}

/// Whether there can be one.
pub(super) fn possible() -> anyhow::Result<()> {
    Network::new(1).map(drop)
}

impl Network {
    pub(super) fn new(servers: usize) -> anyhow::Result<Self> {
        sweep();
        let mut network = Self(Vec::new());
        for n in 0..servers {
            network.0.push(Namespace::new(u8::try_from(n)?)?);
        }
        Ok(network)
    }

    pub(super) fn namespace(&self, n: usize) -> anyhow::Result<&str> {
        Ok(&self.0.get(n).context("one of the networks")?.name)
    }

    /// The address of the server behind it.
    pub(super) fn server(&self, n: usize) -> IpAddr {
        self.0.get(n).map_or([127, 0, 0, 1].into(), |namespace| namespace.there)
    }

    /// From now on packets from and to this server get lost.
    pub(super) fn lose(&self, n: usize) -> anyhow::Result<()> {
        self.0.get(n).context("one of the networks")?.neighbours("replace", &["lladdr", NOBODY, "nud", "permanent"])
    }

    /// They arrive again.
    pub(super) fn mend(&self, n: usize) -> anyhow::Result<()> {
        self.0.get(n).context("one of the networks")?.neighbours("del", &[])
    }
}

impl Namespace {
    fn new(n: u8) -> anyhow::Result<Self> {
        let pid = std::process::id();
        // Two of them run at once with different ones, mostly.
        let net = |host: u8| IpAddr::from([198, 18, (pid % 256) as u8, n * 4 + host]);
        let namespace = Self { name: format!("{PREFIX}{pid}-{n}"), link: format!("{LINK}{pid}-{n}"), here: net(1), there: net(2) };
        let Self { name, link, here, there } = &namespace;
        ip(&["netns", "add", name])?;
        ip(&["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["address", "add", &format!("{here}/30"), "dev", link])?;
        ip(&["-n", name, "address", "add", &format!("{there}/30"), "dev", "eth0"])?;
        ip(&["link", "set", link, "up"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        Ok(namespace)
    }

    /// Changes both neighbour tables, each for the address at the other end.
    fn neighbours(&self, verb: &str, more: &[&str]) -> anyhow::Result<()> {
        let (here, there) = (self.here.to_string(), self.there.to_string());
        ip(&[&["neigh", verb, &there, "dev", &self.link], more].concat())?;
        ip(&[&["-n", &self.name, "neigh", verb, &here, "dev", "eth0"], more].concat())?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Each takes the other end of the pair with it; the second is for a start that failed half-way.
        let _ = ip(&["netns", "del", &self.name]);
        let _ = ip(&["link", "del", &self.link]);
    }
}

/// Removes what a run left behind that was killed before it could.
fn sweep() {
    let Ok(names) = ip(&["netns", "list"]) else { return };
    for name in names.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some(owner) = name.strip_prefix(PREFIX) else { continue };
        let pid = owner.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            let _ = ip(&["netns", "del", name]);
            let _ = ip(&["link", "del", &format!("{LINK}{owner}")]);
        }
    }
}

fn ip(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("ip").args(args).output().context("ip, of iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}`: {}; it is for root", args.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
