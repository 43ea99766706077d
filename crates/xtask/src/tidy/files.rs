//! Rules about files as such.

use super::tree::{Breach, Tree};

/// Long enough for one idea with its tests; nothing in the models we follow is longer.
const LONGEST: usize = 600;

/// Names under which anything can be put away.
const DRAWERS: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc", "shared"];

/// What only one machine or one person's set-up knows. This file, which lists them, is the one exception.
const MACHINE: &[&str] = &[
    "/work/",
    "/home/",
    "/root/",
    "/Users/",
    "/opt/consul",
    "/opt/pyenv",
    "deb.debian.org",
    "archive.ubuntu.com",
    "pypi.org",
    "registry.npmjs.org",
    "static.crates.io",
    "index.crates.io",
    "proxy.golang.org",
];

pub(super) fn says_why(tree: &Tree) -> Vec<Breach> {
    let silent = tree.rust().filter(|f| !f.text.starts_with("//! "));
    silent.map(|f| f.breach("does not begin with `//!` and why it exists")).collect()
}

pub(super) fn not_too_long(tree: &Tree) -> Vec<Breach> {
    let lines = |text: &str| text.lines().count();
    let long = tree.rust().filter(|f| lines(&f.text) > LONGEST);
    long.map(|f| f.breach(format!("{} lines", lines(&f.text)))).collect()
}

pub(super) fn no_drawers(tree: &Tree) -> Vec<Breach> {
    let is_drawer = |path: &str| path.split('/').any(|p| DRAWERS.contains(&p.trim_end_matches(".rs")));
    tree.rust().filter(|f| is_drawer(&f.path)).map(|f| f.breach("a name that says nothing: name what it is")).collect()
}

pub(super) fn workspace_lints(tree: &Tree) -> Vec<Breach> {
    let obeys = |text: &str| text.contains("[lints]\nworkspace = true");
    tree.manifests().filter(|f| !obeys(&f.text)).map(|f| f.breach("has no `[lints] workspace = true`")).collect()
}

pub(super) fn no_machine(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in tree.files().iter().filter(|f| f.path != "crates/xtask/src/tidy/files.rs") {
        for (index, line) in file.text.lines().enumerate() {
            for found in MACHINE.iter().filter(|m| line.contains(**m)) {
                breaches.push(Breach { at: format!("{}:{}", file.path, index + 1), what: format!("names {found}") });
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_says_nothing_is_seen() {
        let tree = Tree::planted([("a.rs", "fn main() {}\n"), ("b.rs", "//! Why.\n"), ("c.rs", "//!\n")]);
        assert_eq!(says_why(&tree).len(), 2);
    }

    #[test]
    fn a_long_file_is_seen() {
        let (fits, long) = ("x\n".repeat(LONGEST), "x\n".repeat(LONGEST + 1));
        let breaches = not_too_long(&Tree::planted([("a.rs", &fits), ("b.rs", &long)]));
        assert_eq!(breaches, [Breach { at: "b.rs".into(), what: "601 lines".into() }]);
    }

    #[test]
    fn drawers_are_seen() {
        let tree =
            Tree::planted([("crates/common/src/lib.rs", ""), ("crates/a/src/utils.rs", ""), ("crates/a/src/commonwealth.rs", "")]);
        assert_eq!(no_drawers(&tree).len(), 2);
    }

    #[test]
    fn a_crate_without_lints_is_seen() {
        let tree = Tree::planted([("crates/a/Cargo.toml", "[package]\n"), ("Cargo.toml", "[lints]\nworkspace = true\n")]);
        assert_eq!(workspace_lints(&tree)[0].at, "crates/a/Cargo.toml");
    }

    #[test]
    fn a_machine_is_seen() {
        let tree = Tree::planted([("README.md", "ok\nrun /home/me/x\n")]);
        assert_eq!(no_machine(&tree)[0].at, "README.md:2");
    }
}
