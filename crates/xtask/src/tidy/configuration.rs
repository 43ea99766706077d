//! The rule about settings: the code and the page about configuration know the same ones.

use super::tree::{Breach, Tree};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const PAGE: &str = "docs/configuration.md";

/// Settings of tests are for those who read tests.
const OF_TESTS: &str = "SINEW_TEST_";

pub(super) fn documented(tree: &Tree) -> Vec<Breach> {
    let page = tree.get(PAGE).map(|f| f.text.as_str()).unwrap_or_default();
    let on_page: BTreeSet<_> = variables(page).collect();
    let mut in_code: BTreeMap<&str, String> = BTreeMap::new();
    for file in tree.rust().filter(|f| f.of_crate() != "xtask") {
        for line in file.lines().filter(|l| !l.test) {
            for name in variables(line.code).filter(|name| line.code.contains(&format!("\"{name}"))) {
                in_code.entry(name).or_insert_with(|| format!("{}:{}", file.path, line.number));
            }
        }
    }
    let missing = in_code.iter().filter(|(name, _)| !name.starts_with(OF_TESTS) && !on_page.contains(*name));
    let mut breaches: Vec<_> =
        missing.map(|(name, at)| Breach { at: at.clone(), what: format!("reads {name}, which {PAGE} does not name") }).collect();
    let stale = on_page.iter().filter(|name| !in_code.contains_key(*name));
    breaches.extend(stale.map(|name| Breach { at: PAGE.to_owned(), what: format!("names {name}, which nothing reads") }));
    breaches
}

/// Every name that begins with `SINEW_`.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.split(move |c| !part(c)).filter(|word| word.len() > "SINEW_".len() && word.starts_with("SINEW_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_only_one_side_knows_are_seen() {
        let tree = Tree::planted([
            (PAGE, "`SINEW_LISTEN` and `SINEW_OLD`"),
            ("crates/a/src/lib.rs", "var(\"SINEW_LISTEN\"); var(\"SINEW_NEW\"); var(\"SINEW_TEST_X\"); static SINEW_NAME: u8;\n"),
        ]);
        let what: Vec<_> = documented(&tree).into_iter().map(|b| b.what).collect();
        assert_eq!(what, ["reads SINEW_NEW, which docs/configuration.md does not name", "names SINEW_OLD, which nothing reads"]);
    }
}
