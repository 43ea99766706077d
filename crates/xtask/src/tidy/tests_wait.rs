//! Rules about tests: they run, and they wait for conditions instead of for time.

use super::tree::{Breach, SourceFile, Tree};

/// On the line of a sleep that is right, or above it, with the reason: one that polls, or that is what is tested.
const POLLS: &str = "sleeps:";

pub(super) fn none_ignored(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in others(tree) {
        let ignored = file.lines().filter(|l| l.code.trim_start().starts_with("#[ignore"));
        breaches.extend(ignored.map(|l| file.breach_at(l, "a test that does not run proves nothing")));
    }
    breaches
}

/// Sleeping on a paused clock is no waiting, and the testkit's `wait_for` is where everybody's polling is.
pub(super) fn none_sleeps(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in others(tree).filter(|f| f.of_crate() != "testkit" && !f.text.contains("start_paused")) {
        let mut polls = false;
        for line in file.lines() {
            let sleeps = line.code.contains("thread::sleep(") || line.code.contains("time::sleep(");
            if line.test && sleeps && !polls && !line.comment.contains(POLLS) {
                breaches.push(file.breach_at(line, "a test that sleeps is slow and flaky: wait for a condition with a limit"));
            }
            polls = line.comment.contains(POLLS);
        }
    }
    breaches
}

fn others(tree: &Tree) -> impl Iterator<Item = &SourceFile> {
    tree.rust().filter(|f| f.of_crate() != "xtask")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_test_is_seen() {
        let tree = Tree::planted([("tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n")]);
        assert_eq!(none_ignored(&tree)[0].at, "tests/a.rs:2");
    }

    #[test]
    fn a_test_that_sleeps_is_seen() {
        let sleep = "tokio::time::sleep(SECOND).await;\n";
        let in_tests = format!("{sleep}#[cfg(test)]\n{sleep}// sleeps: polls until ready\n{sleep}");
        let paused = format!("#[tokio::test(start_paused = true)]\n{sleep}");
        let tree = Tree::planted([("crates/a/src/lib.rs", &in_tests), ("crates/a/tests/b.rs", &paused)]);
        let breaches = none_sleeps(&tree);
        assert_eq!((breaches.len(), breaches[0].at.as_str()), (1, "crates/a/src/lib.rs:3"));
    }
}
