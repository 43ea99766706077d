//! The registry: a process that holds a list, answers over the network, and asks whoever is on the list whether they live.
//!
//! It speaks lines of text, one request a connection: what is simulated is when and whether answers come, and what they
//! say, not Consul's syntax. Its behaviour is Consul's: blocking queries with an index, an index that goes backwards when
//! everything is lost, checks that fail before an instance is forgotten.

use super::world::{REGISTRY, World};
use crate::network::{Door, PORT, dial};
use anyhow::Context;
use sinew_server::Listener;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Longest time that a blocking query waits.
const WAIT: Duration = Duration::from_secs(3);
/// Time between two looks at everybody, and for each to answer.
const PROBE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(200));
/// Looks in a row that must fail before an instance is forgotten.
const FORGOTTEN: u32 = 6;

/// Everything that is registered. It outlives the registry's process, unless that loses it.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalogue {
    /// Rises with every change.
    pub(super) index: u64,
    pub(super) instances: BTreeMap<String, Instance>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Instance {
    /// Looks in a row that failed.
    failures: u32,
    /// It said that it leaves.
    leaving: bool,
    /// Its check says that it fails, whatever is the case.
    pub(super) slandered: bool,
}

impl Instance {
    fn passes(self) -> bool {
        self.failures == 0 && !self.leaving && !self.slandered
    }
}

/// How the registry misbehaves.
#[derive(Debug, Clone, Default)]
pub(super) struct Whims {
    /// Answers take so much longer.
    pub(super) late: Duration,
    /// Readers are told this instead of what is the case.
    pub(super) stale: Option<Catalogue>,
}

impl Catalogue {
    /// Changes an instance, if it is there.
    pub(super) fn change(&mut self, id: &str, change: impl FnOnce(&mut Instance)) {
        if let Some(instance) = self.instances.get_mut(id) {
            let before = *instance;
            change(instance);
            self.index += u64::from(instance.passes() != before.passes());
        }
    }

    fn remove(&mut self, id: &str) {
        self.index += u64::from(self.instances.remove(id).is_some());
    }

    /// Nobody is registered, and nobody ever was.
    pub(super) fn lose(&mut self) {
        *self = Self { index: 1, instances: BTreeMap::new() };
    }

    /// Index, then a line for each instance: its id, and whether its checks pass.
    fn told(&self) -> String {
        let line = |(id, instance): (&String, &Instance)| format!("{id} {}\n", u8::from(instance.passes()));
        format!("{}\n{}", self.index, self.instances.iter().map(line).collect::<String>())
    }
}

/// The registry's process, until it dies.
pub(super) async fn process(world: Arc<World>) -> anyhow::Result<()> {
    let mut door = Door::open().await?;
    let mut answers = JoinSet::new();
    let mut next = tokio::time::Instant::now() + PROBE.0;
    loop {
        tokio::select! { biased;
            accepted = door.accept() => {
                let (stream, _) = accepted?;
                let world = world.clone();
                // One that goes away in the middle is nobody's loss.
                answers.spawn(async move { answer(&world, stream).await.is_ok() });
            }
            Some(_) = answers.join_next() => {}
            () = tokio::time::sleep_until(next) => {
                next += PROBE.0;
                for id in world.catalogue(|catalogue| catalogue.instances.keys().cloned().collect::<Vec<_>>()) {
                    let world = world.clone();
                    answers.spawn(async move {
                        probe(&world, &id).await;
                        true
                    });
                }
            }
        }
    }
}

async fn probe(world: &World, id: &str) {
    let alive = matches!(timeout(PROBE.1, dial(id, PORT)).await, Ok(Ok(_)));
    world.catalogue(|catalogue| {
        let mut forgotten = false;
        catalogue.change(id, |instance| {
            instance.failures = if alive { 0 } else { instance.failures + 1 };
            forgotten = instance.failures >= FORGOTTEN;
        });
        if forgotten {
            catalogue.remove(id);
        }
    });
}

async fn answer(world: &World, stream: sinew_core::BoxIo) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let (verb, rest) = line.trim_end().split_once(' ').context("a verb and what it is for")?;
    let answer = match verb {
        "watch" => watched(world, rest.parse()?).await,
        "knows" => format!("{}\n", u8::from(world.catalogue(|catalogue| catalogue.instances.contains_key(rest)))),
        "register" => {
            world.catalogue(|catalogue| {
                catalogue.index += 1;
                catalogue.instances.insert(rest.to_owned(), Instance::default());
            });
            "1\n".to_owned()
        }
        "leave" => {
            world.catalogue(|catalogue| catalogue.change(rest, |instance| instance.leaving = true));
            "1\n".to_owned()
        }
        "remove" => {
            world.catalogue(|catalogue| catalogue.remove(rest));
            "1\n".to_owned()
        }
        other => anyhow::bail!("{other} is nothing that can be asked"),
    };
    sleep(world.whims().late).await;
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// Waits for a change after this index.
async fn watched(world: &World, index: u64) -> String {
    let newer = async {
        loop {
            let changed = world.catalogue_changes();
            let now = world.whims().stale.unwrap_or_else(|| world.catalogue(|catalogue| catalogue.clone()));
            if index == 0 || now.index != index {
                return now;
            }
            changed.await;
        }
    };
    match timeout(WAIT, newer).await {
        Ok(now) => now.told(),
        Err(_) => world.whims().stale.unwrap_or_else(|| world.catalogue(|catalogue| catalogue.clone())).told(),
    }
}

/// Asks the registry; its answer's lines.
pub(super) async fn ask(question: &str, patience: Duration) -> anyhow::Result<Vec<String>> {
    let asked = async {
        let mut stream = BufReader::new(dial(REGISTRY, PORT).await?);
        stream.write_all(format!("{question}\n").as_bytes()).await?;
        let (mut lines, mut line) = (Vec::new(), String::new());
        while stream.read_line(&mut line).await? > 0 {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
        }
        // Every answer has a line at least: without one it was cut off.
        anyhow::ensure!(!lines.is_empty(), "the registry went away");
        Ok(lines)
    };
    timeout(patience, asked).await.context("the registry does not answer")?
}

/// Follows everybody's list: for those who would know of a change.
pub(super) async fn list(index: u64) -> anyhow::Result<(u64, BTreeMap<String, bool>)> {
    let lines = ask(&format!("watch {index}"), WAIT + WAIT / 10).await?;
    let mut lines = lines.iter();
    let index = lines.next().context("an index")?.parse()?;
    let instance = |line: &String| line.split_once(' ').map(|(id, passes)| (id.to_owned(), passes == "1")).context("an instance");
    Ok((index, lines.map(instance).collect::<anyhow::Result<_>>()?))
}
