//! Rules about concurrency: every task has an owner, every choice an order.

use super::tree::{Breach, Tree};

/// A spawn whose handle is thrown away outlives whoever started it. Tests end with their process.
pub(super) fn owned(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in tree.rust().filter(|f| f.of_crate() != "xtask") {
        let statements = file.lines().filter(|l| !l.test && is_bare_spawn(l.code));
        breaches.extend(statements.map(|l| file.breach_at(l, "a task that nobody owns: keep its handle, or use a JoinSet")));
    }
    breaches
}

fn is_bare_spawn(code: &str) -> bool {
    let code = code.trim_start();
    let code = code.strip_prefix("drop(").or_else(|| code.strip_prefix("let _ = ")).unwrap_or(code);
    ["tokio::spawn(", "tokio::task::spawn(", "task::spawn("].iter().any(|s| code.starts_with(s))
}

/// An unbiased `select!` picks by chance, which no test can repeat.
pub(super) fn biased(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in tree.rust().filter(|f| f.of_crate() != "xtask") {
        let mut lines = file.lines().filter(|l| !l.code.trim().is_empty()).peekable();
        while let Some(line) = lines.next() {
            let opens = line.code.trim_end().ends_with("select! {");
            if opens && lines.peek().is_none_or(|next| next.code.trim() != "biased;") {
                breaches.push(file.breach_at(line, "a `select!` without `biased;`"));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_without_owner_is_seen() {
        let planted = "    tokio::spawn(watch());\n    let _ = tokio::spawn(watch());\n    let owned = tokio::spawn(watch());\n    set.spawn(x);\n";
        assert_eq!(owned(&Tree::planted([("crates/a/src/lib.rs", planted)])).len(), 2);
    }

    #[test]
    fn a_choice_by_chance_is_seen() {
        let planted = "tokio::select! {\n    biased;\n}\ntokio::select! {\n    // why\n    a = b => {}\n}\n";
        assert_eq!(biased(&Tree::planted([("crates/a/src/lib.rs", planted)]))[0].at, "crates/a/src/lib.rs:4");
    }
}
