//! The invariants that no compiler checks, each a function from the tree to what breaks it.
//!
//! They read text, not syntax: a rule that a reader can check with `grep` is a rule that holds. Each has a test that
//! sees it fail on a planted breach.

mod boundaries;
mod configuration;
mod dependencies;
mod deploy;
mod files;
mod migrations;
mod planted;
mod tasks;
mod tests_wait;
mod tree;

use crate::run::{Failure, root};
use tree::{Breach, Tree};

/// A rule and what it is called.
type Rule = (&'static str, fn(&Tree) -> Vec<Breach>);

const RULES: &[Rule] = &[
    ("every file says why it exists", files::says_why),
    ("no file is longer than 600 lines", files::not_too_long),
    ("no crate or module is a drawer", files::no_drawers),
    ("every crate obeys the workspace's lints", files::workspace_lints),
    ("nothing names a machine, its folders or its registries", files::no_machine),
    ("domain code knows no wire and no store", boundaries::domain_is_pure),
    ("only the crates for it name Consul's API", boundaries::consul_behind_its_door),
    ("only sinew-telemetry names the telemetry libraries", boundaries::telemetry_behind_its_door),
    ("only sinew-rabbitmq names the broker's client", boundaries::rabbitmq_behind_its_door),
    ("sinew-core performs no I/O and spawns nothing", boundaries::core_is_pure),
    ("dependencies point one way", dependencies::one_way),
    ("every spawned task has an owner", tasks::owned),
    ("every select! is biased", tasks::biased),
    ("no test is ignored", tests_wait::none_ignored),
    ("no test sleeps", tests_wait::none_sleeps),
    ("every migration exists for both databases", migrations::paired),
    ("every planted bug is somewhere, and a test catches it", planted::each_is_planted_and_caught),
    ("only tests have planted bugs", planted::only_tests_have_them),
    ("every setting is documented, and exists", configuration::documented),
    ("containers and manifests agree with the code", deploy::agrees),
];

/// Checks the whole repository.
pub(crate) fn run() -> Result<(), Failure> {
    let tree = Tree::read(&root()).map_err(|e| Failure::missing(format!("the repository cannot be read: {e}")))?;
    let mut breaches = 0;
    for (rule, check) in RULES {
        for breach in check(&tree) {
            breaches += 1;
            eprintln!("{}: {} ({rule})", breach.at, breach.what);
        }
    }
    match breaches {
        0 => {
            eprintln!("tidy: {} rules hold over {} files", RULES.len(), tree.files().len());
            Ok(())
        }
        1 => Err(Failure::no("tidy: one breach")),
        n => Err(Failure::no(format!("tidy: {n} breaches"))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        super::run().unwrap();
    }
}
