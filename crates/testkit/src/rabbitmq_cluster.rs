//! A private RabbitMQ cluster.

use crate::{
    Running, free_port,
    rabbitmq::{Mapper, Node, START, find_sbin, name},
    wait_for,
};
use anyhow::{Context, ensure};
use std::collections::BTreeSet;

/// Nodes. Three is the least of which one may die.
const NODES: usize = 3;

/// Three RabbitMQ nodes of one test, which replicate quorum queues.
#[derive(Debug)]
pub struct RabbitMqCluster {
    // Dropped in this order: the nodes first.
    nodes: Vec<Node>,
    mapper: Mapper,
}

/// A quorum queue, as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Queue {
    leader: String,
    members: BTreeSet<String>,
    online: BTreeSet<String>,
}

impl RabbitMqCluster {
    /// Starts three empty nodes that know one another.
    pub async fn start() -> anyhow::Result<Self> {
        let mapper = Mapper::start()?;
        let mut ports = Vec::new();
        for _ in 0..NODES {
            ports.push(free_port()?);
        }
        let mut more = "cluster_formation.peer_discovery_backend = classic_config\n".to_owned();
        for (n, port) in (1..).zip(&ports) {
            more += &format!("cluster_formation.classic_config.nodes.{n} = {}\n", name(*port));
        }
        let mut nodes = Vec::new();
        for port in ports {
            let mut node = mapper.node(port, &more)?;
            // One after the other: empty nodes that start at once may each found a cluster.
            node.ready().await?;
            nodes.push(node);
        }
        let started = Self { nodes, mapper };
        let running = started.ctl(&["eval", "length(rabbit_nodes:all_running())."]).await?;
        ensure!(running.trim() == NODES.to_string(), "the nodes form no cluster: {running} of {NODES} know one another");
        Ok(started)
    }

    /// `amqp://guest:guest@127.0.0.1:port,127.0.0.1:port,127.0.0.1:port/%2f`.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("amqp://guest:guest@{}/%2f", hosts.join(","))
    }

    /// Which node leads this quorum queue, once all of its members are up.
    pub async fn leader(&self, queue: &str) -> anyhow::Result<usize> {
        let leader = wait_for(&format!("all members of {queue}"), START, async || {
            let told = self.queue(queue).await.map_err(|e| format!("{e:#}"))?;
            if told.members.len() == NODES && told.online == told.members { Ok(told.leader) } else { Err(format!("{told:?}")) }
        })
        .await?;
        self.nodes.iter().position(|node| node.name == leader).with_context(|| format!("{leader} is none of ours"))
    }

    /// Waits until every member of this quorum queue would survive a kill.
    pub async fn written_down(&self, queue: &str) -> anyhow::Result<()> {
        for node in &self.nodes {
            node.written_down(self.mapper.folder(), queue).await?;
        }
        Ok(())
    }

    /// The process of a node, to kill, freeze and restart. After a restart, wait for [`RabbitMqCluster::ready`].
    pub fn process(&mut self, node: usize) -> anyhow::Result<&mut Running> {
        Ok(&mut self.node(node)?.server)
    }

    /// Waits until a node speaks AMQP.
    pub async fn ready(&mut self, node: usize) -> anyhow::Result<()> {
        self.node(node)?.ready().await
    }

    fn node(&mut self, node: usize) -> anyhow::Result<&mut Node> {
        self.nodes.get_mut(node).with_context(|| format!("there is no node {node}"))
    }

    async fn queue(&self, queue: &str) -> anyhow::Result<Queue> {
        let listed = self.ctl(&["list_queues", "--quiet", "--no-table-headers", "name", "leader", "members", "online"]).await?;
        read(&listed, queue).with_context(|| format!("no leader of {queue} in {listed:?}"))
    }

    /// Asks the cluster, by whichever node answers.
    async fn ctl(&self, args: &[&str]) -> anyhow::Result<String> {
        let (sbin, mut told) = (find_sbin()?, String::new());
        for node in &self.nodes {
            let mut command = tokio::process::Command::new(sbin.join("rabbitmqctl"));
            command.args(["--node", &node.name]).args(args).envs(self.mapper.env()).kill_on_drop(true);
            let output = command.output().await.context("rabbitmqctl")?;
            if output.status.success() {
                return Ok(String::from_utf8(output.stdout)?);
            }
            told = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        anyhow::bail!("rabbitmqctl {args:?}: {told}")
    }
}

/// The line of one queue: `name⇥leader⇥[member, member]⇥[member]`.
fn read(listed: &str, queue: &str) -> Option<Queue> {
    let line = listed.lines().find(|line| line.split('\t').next() == Some(queue))?;
    let mut fields = line.split('\t').skip(1);
    let leader = fields.next().filter(|leader| !leader.is_empty())?.to_owned();
    let mut nodes = || {
        let list = fields.next()?.trim_matches(['[', ']']);
        Some(list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
    };
    Some(Queue { leader, members: nodes()?, online: nodes()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_queue_is_read() {
        let listed = "a.b.dlq\tx@h\t[x@h]\t[x@h]\na.b\ty@h\t[x@h, y@h]\t[y@h]\nc\t\t\t\n";
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let queue = Queue { leader: "y@h".into(), members: set(&["x@h", "y@h"]), online: set(&["y@h"]) };
        assert_eq!(read(listed, "a.b"), Some(queue));
        assert_eq!((read(listed, "a"), read(listed, "c")), (None, None));
    }

    #[tokio::test]
    async fn its_nodes_know_one_another() {
        let mut cluster = RabbitMqCluster::start().await.unwrap();
        assert_eq!(cluster.url().matches("127.0.0.1:").count(), NODES);
        cluster.process(1).unwrap().restart().unwrap();
        cluster.ready(1).await.unwrap();
        assert!(cluster.queue("nothing").await.is_err());
    }
}
