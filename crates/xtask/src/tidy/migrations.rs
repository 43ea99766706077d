//! The rule about migrations: what one database gets, the other gets.

use super::tree::{Breach, Tree};

pub(super) fn paired(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in tree.files().iter().filter(|f| f.path.contains("/migrations/") && f.path.ends_with(".sql")) {
        let twin = if file.path.contains("/postgres/") {
            file.path.replace("/postgres/", "/sqlite/")
        } else {
            file.path.replace("/sqlite/", "/postgres/")
        };
        if twin == file.path {
            breaches.push(file.breach("lies neither in postgres/ nor in sqlite/"));
        } else if tree.get(&twin).is_none() {
            breaches.push(file.breach(format!("has no twin {twin}")));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_without_its_twin_is_seen() {
        let tree = Tree::planted([
            ("crates/a/migrations/postgres/0001_a.sql", ""),
            ("crates/a/migrations/sqlite/0001_a.sql", ""),
            ("crates/a/migrations/sqlite/0002_b.sql", ""),
            ("crates/a/migrations/0003_c.sql", ""),
        ]);
        let at: Vec<_> = paired(&tree).into_iter().map(|b| b.at).collect();
        assert_eq!(at, ["crates/a/migrations/sqlite/0002_b.sql", "crates/a/migrations/0003_c.sql"]);
    }
}
