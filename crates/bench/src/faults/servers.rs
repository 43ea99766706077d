//! The servers: each a process of its own, at an address that it keeps, on loopback or behind a network of its own.

use super::{DEADLINE, SERVERS, namespace::Network};
use anyhow::Context;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};
use testkit::{Program, Running};

/// Where they listen in their networks.
const PORT: u16 = 50_051;

#[derive(Debug)]
pub(super) struct Servers {
    running: Vec<Running>,
    pub(super) addresses: Vec<SocketAddr>,
    journals: Vec<PathBuf>,
    /// After the processes in it.
    pub(super) network: Option<Network>,
    _folder: tempfile::TempDir,
}

/// How often the handlers were given each call.
pub(super) type Executed = BTreeMap<u64, u32>;

impl Servers {
    /// Bare echo servers.
    pub(super) async fn bare(network: Option<Network>) -> anyhow::Result<Self> {
        Self::start(&[], false, network).await
    }

    /// Services of the mesh, told to do something by options of `bench serve`. They write down the calls that they were given.
    pub(super) async fn mesh(options: &[&str]) -> anyhow::Result<Self> {
        Self::start(&[&["--mesh"], options].concat(), true, None).await
    }

    async fn start(options: &[&str], journal: bool, network: Option<Network>) -> anyhow::Result<Self> {
        let (folder, this) = (tempfile::tempdir()?, std::env::current_exe()?);
        let (mut running, mut addresses, mut journals) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..SERVERS {
            let (name, log) = (format!("server {n}"), folder.path().join(format!("{n}.log")));
            let (program, address) = match &network {
                Some(network) => {
                    let program = Program::new(&name, "ip", log).args(["netns", "exec", network.namespace(n)?]).args([&this]);
                    (program, SocketAddr::new(network.server(n), PORT))
                }
                None => (Program::new(&name, &this, log), SocketAddr::new([127, 0, 0, 1].into(), testkit::free_port()?)),
            };
            let (host, port) = (address.ip().to_string(), address.port().to_string());
            let mut program = program.args(["serve", "--listeners", "1", "--host", &host, "--port", &port]).args(options);
            if journal {
                let path = folder.path().join(format!("{n}.ids"));
                program = program.args(["--journal".as_ref(), path.as_os_str()]);
                journals.push(path);
            }
            running.push(program.start()?);
            addresses.push(address);
        }
        let servers = Self { running, addresses, journals, network, _folder: folder };
        for address in &servers.addresses {
            testkit::wait_for("a server", DEADLINE, async || {
                tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
            })
            .await?;
        }
        Ok(servers)
    }

    pub(super) fn server(&mut self, n: usize) -> anyhow::Result<&mut Running> {
        self.running.get_mut(n % SERVERS).context("one of the servers")
    }

    /// As an argument of a program.
    pub(super) fn list(&self) -> String {
        self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// What the handlers of all of them were given so far, those that were killed included.
    pub(super) fn executed(&self) -> anyhow::Result<Executed> {
        let mut executed = Executed::new();
        for journal in &self.journals {
            let bytes = match std::fs::read(journal) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                read => read.with_context(|| format!("{}", journal.display()))?,
            };
            for id in bytes.as_chunks().0 {
                *executed.entry(u64::from_le_bytes(*id)).or_default() += 1;
            }
        }
        Ok(executed)
    }
}
