//! The repository's text files, and how rules look at them.

use std::{fs, io, path::Path};

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &["target", ".git", ".sinew", "node_modules"];

/// Extensions and names of files that rules read.
const READ: &[&str] = &["rs", "toml", "md", "proto", "json", "yaml", "yml", "sh", "sql", "Dockerfile", "run"];

/// Every text file of the repository.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: Vec<SourceFile>,
}

/// One text file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Something that breaks a rule.
#[derive(Debug, PartialEq)]
pub(crate) struct Breach {
    /// `path` or `path:line`.
    pub(crate) at: String,
    pub(crate) what: String,
}

/// A line of Rust without its comment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) code: &'a str,
    /// Whether it belongs to tests.
    pub(crate) test: bool,
    /// What follows `//`, if anything.
    pub(crate) comment: &'a str,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.descend(root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn descend(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.descend(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() && READ.contains(&name.rsplit('.').next().unwrap_or_default()) {
                self.files.push(SourceFile { text: String::from_utf8_lossy(&fs::read(entry.path())?).into_owned(), path });
            }
        }
        Ok(())
    }

    pub(crate) fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|f| f.path.ends_with(".rs"))
    }

    /// The crates' manifests, the root's included.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|f| f.path.ends_with("Cargo.toml"))
    }

    pub(crate) fn get(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|f| f.path == path)
    }

    #[cfg(test)]
    pub(crate) fn planted<const N: usize>(files: [(&str, &str); N]) -> Self {
        let files = files.map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
        Self { files: files.into() }
    }
}

impl SourceFile {
    /// The crate it belongs to: the folder below `crates/`, or empty.
    pub(crate) fn of_crate(&self) -> &str {
        self.path.strip_prefix("crates/").and_then(|rest| rest.split('/').next()).unwrap_or_default()
    }

    /// Its lines as code. What follows the first `#[cfg(test)]` of a file is tests, as is every file of tests.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut test = self.is_test();
        self.text.lines().enumerate().map(move |(index, line)| {
            test |= line.trim() == "#[cfg(test)]";
            let (code, comment) = split_comment(line);
            Line { number: index + 1, code, test, comment }
        })
    }

    fn is_test(&self) -> bool {
        let parts: Vec<_> = self.path.split('/').collect();
        parts.iter().any(|p| matches!(*p, "tests" | "tests.rs" | "testkit"))
    }

    pub(crate) fn breach(&self, what: impl Into<String>) -> Breach {
        Breach { at: self.path.clone(), what: what.into() }
    }

    pub(crate) fn breach_at(&self, line: Line<'_>, what: impl Into<String>) -> Breach {
        Breach { at: format!("{}:{}", self.path, line.number), what: what.into() }
    }
}

/// Whether `word` stands alone in `code`, not inside a longer name.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|s| s.chars().next_back());
        let after = code.get(at + word.len()..).and_then(|s| s.chars().next());
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}

/// A comment begins at the first `//` that is not part of a URL.
fn split_comment(line: &str) -> (&str, &str) {
    let at = line.match_indices("//").map(|(at, _)| at).find(|at| !line.get(..*at).is_some_and(|s| s.ends_with(':')));
    at.and_then(|at| line.split_at_checked(at)).unwrap_or((line, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_tests_are_told_from_code() {
        let tree = Tree::planted([("crates/a/src/lib.rs", "let u = \"http://x\"; // why\n#[cfg(test)]\nmod tests {}\n")]);
        let lines: Vec<_> = tree.files()[0].lines().collect();
        assert_eq!((lines[0].code, lines[0].comment, lines[0].test), ("let u = \"http://x\"; ", "// why", false));
        assert!(lines[2].test);
        assert_eq!(tree.files()[0].of_crate(), "a");
    }

    #[test]
    fn a_word_is_not_part_of_a_longer_one() {
        assert!(has_word("use tonic::Status;", "tonic"));
        assert!(!has_word("let tonicity = 1;", "tonic"));
        assert!(has_word("subatomic, tonic", "tonic"));
    }
}
