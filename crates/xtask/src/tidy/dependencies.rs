//! The rule about who may depend on whom.

use super::tree::{Breach, SourceFile, Tree};

/// What each crate of ours may depend on among ours. Tests may use more; nothing may depend on the root package.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("sinew-core", &[]),
    ("sinew-proto", &["sinew-core"]),
    ("sinew-sql", &["sinew-core"]),
    ("sinew-client", &["sinew-core"]),
    ("sinew-server", &["sinew-core", "sinew-proto"]),
    ("sinew-consul", &["sinew-core"]),
    ("sinew-consul-embedded", &["sinew-core"]),
    ("sinew-telemetry", &["sinew-core"]),
    ("sinew-events", &["sinew-core", "sinew-proto", "sinew-sql", "sinew"]),
    ("sinew-rabbitmq", &["sinew-core", "sinew-events"]),
    ("sinew-saga", &["sinew-core", "sinew-proto", "sinew-sql"]),
    ("sinew", &["sinew-client", "sinew-consul", "sinew-core", "sinew-proto", "sinew-server", "sinew-telemetry"]),
    ("sinew-gateway", &["sinew", "sinew-core", "sinew-proto"]),
    ("contracts", &["sinew-core", "sinew-proto"]),
    ("testkit", &[]),
    ("xtask", &[]),
];

/// What every service may depend on.
const SERVICES: &[&str] = &["contracts", "sinew", "sinew-core", "sinew-events", "sinew-proto", "sinew-saga", "sinew-sql"];

/// May depend on anything, and nothing on them.
const TOPS: &[&str] = &["bench", "checker", "simulation", ""];

pub(super) fn one_way(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for manifest in tree.manifests() {
        let name = manifest.of_crate();
        let allowed = match MAY_DEPEND.iter().find(|(known, _)| *known == name) {
            Some((_, allowed)) => *allowed,
            None if name.starts_with("shop-") => SERVICES,
            None if TOPS.contains(&name) => continue,
            None => {
                breaches.push(manifest.breach("is a new crate: say in the tidy rule what it may depend on"));
                continue;
            }
        };
        let wrong = dependencies(manifest).filter(|d| if name == "xtask" { true } else { is_ours(d) && !allowed.contains(d) });
        breaches.extend(wrong.map(|d| manifest.breach(format!("must not depend on {d}"))));
    }
    breaches
}

fn is_ours(dependency: &str) -> bool {
    dependency.starts_with("shop-") || dependency == "bench" || MAY_DEPEND.iter().any(|(name, _)| *name == dependency)
}

/// The names under `[dependencies]` and `[build-dependencies]`.
fn dependencies(manifest: &SourceFile) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.text.lines().filter_map(move |line| {
        if line.starts_with('[') {
            inside = matches!(line, "[dependencies]" | "[build-dependencies]");
            return None;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        (inside && !name.is_empty() && !name.starts_with('#')).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(path: &str, manifest: &str) -> Vec<String> {
        one_way(&Tree::planted([(path, manifest)])).into_iter().map(|b| b.what).collect()
    }

    #[test]
    fn a_mesh_crate_that_knows_the_shop_is_seen() {
        let manifest = "[dependencies]\nsinew-core.workspace = true\ncontracts.workspace = true\ntokio = \"1\"\n";
        assert_eq!(breaches("crates/sinew-client/Cargo.toml", manifest), ["must not depend on contracts"]);
    }

    #[test]
    fn services_must_not_know_each_other_but_their_tests_may_use_the_testkit() {
        let manifest =
            "[dependencies]\nsinew.workspace = true\nshop-user.workspace = true\n[dev-dependencies]\ntestkit.workspace = true\n";
        assert_eq!(breaches("crates/shop-order/Cargo.toml", manifest), ["must not depend on shop-user"]);
    }

    #[test]
    fn the_chores_depend_on_nothing_and_new_crates_are_asked_about() {
        assert_eq!(breaches("crates/xtask/Cargo.toml", "[dependencies]\nanyhow = \"1\"\n"), ["must not depend on anyhow"]);
        assert_eq!(breaches("crates/stuff/Cargo.toml", "").len(), 1);
    }
}
