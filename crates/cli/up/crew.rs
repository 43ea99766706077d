//! All children of one supervisor, and the order in which they leave.

use super::child::{Life, Slot, last_lines};
use crate::exit::Exit;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// The children. Dropping it kills them all.
#[derive(Debug)]
pub(crate) struct Crew {
    /// In the order of leaving.
    tiers: Vec<Tier>,
    lives: Vec<(Slot, watch::Receiver<Life>)>,
}

#[derive(Debug)]
struct Tier {
    leave: CancellationToken,
    slots: JoinSet<()>,
}

impl Crew {
    /// Starts every slot of every tier.
    pub(crate) fn start(tiers: Vec<Vec<Slot>>) -> Self {
        let mut lives = Vec::new();
        let mut start = |slots: Vec<Slot>| {
            let mut tier = Tier { leave: CancellationToken::new(), slots: JoinSet::new() };
            for slot in slots {
                let (life, seen) = watch::channel(Life::Well);
                lives.push((slot.clone(), seen));
                tier.slots.spawn(slot.run(tier.leave.clone(), life));
            }
            tier
        };
        let tiers = tiers.into_iter().map(&mut start).collect();
        Self { tiers, lives }
    }

    /// Every child's name.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &str> {
        self.lives.iter().map(|(slot, _)| slot.instance.as_str())
    }

    /// Waits until a child falls, and tells why as it would be told to its user. Cancel safe.
    pub(crate) async fn fallen(&self) -> Exit {
        let mut watching = JoinSet::new();
        for (slot, seen) in &self.lives {
            let (slot, mut seen) = (slot.clone(), seen.clone());
            watching.spawn(async move {
                match seen.wait_for(|life| *life != Life::Well).await.map(|life| life.clone()) {
                    Ok(Life::Fell { how, code }) => fell(&slot, &how, code),
                    // Left as it was asked to.
                    _ => std::future::pending().await,
                }
            });
        }
        match watching.join_next().await {
            Some(Ok(exit)) => exit,
            _ => std::future::pending().await,
        }
    }

    /// Asks tier after tier to drain and waits for each.
    pub(crate) async fn leave(&mut self) {
        for tier in &mut self.tiers {
            tier.leave.cancel();
            while tier.slots.join_next().await.is_some() {}
        }
    }
}

fn fell(slot: &Slot, how: &str, code: Option<i32>) -> Exit {
    let message = format!("{} {how}; the end of its log {}:\n  {}", slot.instance, slot.log.display(), last_lines(&slot.log));
    match code {
        Some(64) => Exit::usage(message),
        _ => Exit::unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn slot(folder: &Path, instance: &str, script: &str) -> Slot {
        let args = vec!["-c".into(), script.into(), "sh".into(), folder.display().to_string()];
        let log = folder.join(format!("{instance}.log"));
        Slot { instance: instance.into(), program: "/bin/sh".into(), args, env: Vec::new(), log }
    }

    #[tokio::test]
    async fn tiers_leave_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let leaves = |name: &str| slot(folder.path(), name, &format!("cat; echo {name} >>\"$1/left\""));
        let mut crew = Crew::start(vec![vec![leaves("edge")], vec![leaves("middle")], vec![leaves("store")]]);
        assert_eq!(crew.instances().collect::<Vec<_>>(), ["edge", "middle", "store"]);
        crew.leave().await;
        assert_eq!(std::fs::read_to_string(folder.path().join("left")).unwrap(), "edge\nmiddle\nstore\n");
    }

    #[tokio::test]
    async fn the_first_to_fall_is_named_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let well = slot(folder.path(), "well-0", "cat");
        let bad = slot(folder.path(), "bad-0", "echo DATABASE_URL is no URL; exit 64");
        let mut crew = Crew::start(vec![vec![well, bad]]);
        let exit = crew.fallen().await;
        assert_eq!(exit.code(), 64);
        assert!(exit.to_string().contains("bad-0 ended with") && exit.to_string().contains("is no URL"), "{exit}");
        crew.leave().await;
    }
}
