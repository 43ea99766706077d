//! What goes to stdout: data, for people or for programs.

use crate::exit::Exit;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

impl Format {
    /// Writes `data` as JSON, or as the table that `rows` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        data: &T,
        headings: &[&str],
        rows: impl FnOnce(&T) -> Vec<Vec<String>>,
    ) -> Result<(), Exit> {
        let text = match self {
            Self::Json => serde_json::to_string_pretty(data).map_err(|e| Exit::no(format!("cannot write JSON: {e}")))? + "\n",
            Self::Text => table(headings, &rows(data)),
        };
        write(&text)
    }
}

/// Writes to stdout. Who reads only the first lines (`| head`) is content with them.
pub(crate) fn write(text: &str) -> Result<(), Exit> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Exit::no(format!("cannot write to stdout: {error}"))),
        _ => Ok(()),
    }
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|h| h.to_uppercase()).collect();
    let lines = || std::iter::once(&headings).chain(rows);
    let width = |column: usize| lines().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let rows = [vec!["order".to_owned(), "2".to_owned()], vec!["ü".to_owned(), "10".to_owned()]];
        assert_eq!(super::table(&["name", "n"], &rows), "NAME   N\norder  2\nü      10\n");
    }
}
