//! The rules about bugs that are put in on purpose: each is somewhere, has a test, and ships nowhere.

use super::tree::{Breach, Line, SourceFile, Tree};
use crate::planted::{CATCHES, Catch};

/// Where all are listed.
const LIST: &str = "crates/sinew-core/src/planted.rs";

pub(super) fn each_is_planted_and_caught(tree: &Tree) -> Vec<Breach> {
    let Some(list) = tree.get(LIST) else { return Vec::new() };
    let mut breaches = Vec::new();
    for (line, bug) in listed(list) {
        let place = format!("planted!({bug})");
        let doing = format!("planted!({bug} =>");
        let sources = tree.rust().filter(|f| f.path.contains("/src/") && f.of_crate() != "xtask");
        if !sources.flat_map(SourceFile::lines).any(|l| l.code.contains(&place) || l.code.contains(&doing)) {
            breaches.push(list.breach_at(line, format!("{bug} is planted nowhere")));
        }
        match CATCHES.iter().filter(|catch| catch.bug == bug).collect::<Vec<_>>().as_slice() {
            [catch] if exists(tree, catch) => {}
            [catch] => breaches.push(list.breach_at(line, format!("{bug}: there is no test {}", catch.function()))),
            [] => breaches.push(list.breach_at(line, format!("{bug} has no test in the table of `cargo xtask planted`"))),
            _ => breaches.push(list.breach_at(line, format!("{bug} is in the table of `cargo xtask planted` more than once"))),
        }
    }
    let unknown = CATCHES.iter().filter(|catch| !listed(list).any(|(_, bug)| bug == catch.bug));
    breaches
        .extend(unknown.map(|catch| list.breach(format!("{} is in the table of `cargo xtask planted` and not here", catch.bug))));
    breaches
}

/// Dev-dependencies are not built for what ships.
pub(super) fn only_tests_have_them(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for manifest in tree.manifests() {
        let mut section = "";
        for line in manifest.text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            if section != "[dev-dependencies]" && line.contains("\"planted\"") || line.contains("sinew-core/planted") {
                breaches.push(manifest.breach(format!("switches planted bugs on in {section}")));
            }
        }
    }
    breaches
}

/// The names in the list.
fn listed(list: &SourceFile) -> impl Iterator<Item = (Line<'_>, &str)> {
    let inside = list.lines().skip_while(|line| line.code.trim() != "bugs! {").skip(1).take_while(|line| line.code != "}");
    inside.filter_map(|line| Some((line, line.code.trim().strip_suffix(',')?)))
}

fn exists(tree: &Tree, catch: &Catch) -> bool {
    let function = format!("fn {}(", catch.function());
    tree.rust().filter(|f| f.of_crate() == catch.package).any(|f| f.text.contains(&function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_that_is_nowhere_or_unknown_to_the_table_is_seen() {
        let list = "bugs! {\n    /// Why.\n    NoInbox,\n    /// Why.\n    NoSuch,\n}\n";
        let tree = Tree::planted([
            (LIST, list),
            ("crates/sinew-events/src/a.rs", "planted!(NoInbox => return); // not planted!(NoSuch)\n"),
            ("crates/sinew-events/tests/a.rs", "async fn a_repeated_delivery_takes_effect_once(planted!(NoSuch)) {\n"),
        ]);
        let breaches = each_is_planted_and_caught(&tree);
        let here: Vec<_> = breaches.iter().filter(|b| b.at != LIST).map(|b| (&*b.at, &*b.what)).collect();
        let at = format!("{LIST}:5");
        let table = "NoSuch has no test in the table of `cargo xtask planted`";
        assert_eq!(here, [(&*at, "NoSuch is planted nowhere"), (&*at, table)]);
        assert_eq!(breaches.len(), 2 + CATCHES.len() - 1, "and all that the table has beside it");
    }

    #[test]
    fn a_bug_whose_test_is_gone_is_seen() {
        let tree = Tree::planted([(LIST, "bugs! {\n    NoInbox,\n}\n"), ("crates/sinew-events/src/a.rs", "planted!(NoInbox)\n")]);
        let what = "NoInbox: there is no test a_repeated_delivery_takes_effect_once";
        assert_eq!(each_is_planted_and_caught(&tree)[0].what, what);
    }

    #[test]
    fn a_build_that_ships_them_is_seen() {
        let on = "sinew-core = { workspace = true, features = [\"planted\"] }\n";
        let tree = Tree::planted([
            ("crates/a/Cargo.toml", &format!("[dependencies]\n{on}")),
            ("crates/b/Cargo.toml", &format!("[dependencies]\n[dev-dependencies]\n{on}")),
            ("crates/c/Cargo.toml", "[features]\ndefault = [\"sinew-core/planted\"]\n"),
        ]);
        let at: Vec<_> = only_tests_have_them(&tree).into_iter().map(|b| b.at).collect();
        assert_eq!(at, ["crates/a/Cargo.toml", "crates/c/Cargo.toml"]);
    }
}
