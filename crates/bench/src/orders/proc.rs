//! Processor time of processes and of all that they started, from `/proc`.

use std::collections::BTreeMap;

/// A tick of `/proc/<pid>/stat`, in milliseconds: USER_HZ is 100 on every architecture that Linux has today.
const TICK_MS: f64 = 10.0;

/// What one process says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// utime + stime.
    own: u64,
    /// cutime + cstime: of children that ended and were waited for, and of theirs.
    ended: u64,
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub(super) struct Processes(BTreeMap<u32, Stat>);

impl Processes {
    pub(super) fn now() -> Self {
        let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        // One that ends meanwhile is in its parent's count from then on.
        let stat = |pid| Some((pid, parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?));
        Self(pids.filter_map(stat).collect())
    }

    pub(super) fn children(&self, of: u32) -> Vec<u32> {
        self.0.iter().filter(|(_, stat)| stat.parent == of).map(|(pid, _)| *pid).collect()
    }

    /// Of this process alone, in milliseconds.
    pub(super) fn own_ms(&self, pid: u32) -> f64 {
        self.0.get(&pid).map_or(0.0, |stat| stat.own as f64 * TICK_MS)
    }

    /// Of this process and of all that it started, ended ones included, in milliseconds.
    pub(super) fn tree_ms(&self, pid: u32) -> f64 {
        let Some(stat) = self.0.get(&pid) else { return 0.0 };
        let ours = (stat.own + stat.ended) as f64 * TICK_MS;
        ours + self.children(pid).into_iter().map(|child| self.tree_ms(child)).sum::<f64>()
    }
}

/// The name, in brackets, may hold spaces and brackets; what follows the last one are fields from the third on.
fn parse(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    Some(Stat { parent: u32::try_from(field(4)?).ok()?, own: field(14)? + field(15)?, ended: field(16)? + field(17)? })
}

/// What a process was started with, where it may be read.
pub(super) fn words(pid: u32, file: &str) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "4242 (postgres: a (b) c) S 17 4242 4242 0 -1 4194304 900 80 0 0 70 30 500 20 20 0 1 0 123 456 789 18446744073709551615";

    #[test]
    fn a_line_is_read_whatever_the_name_is() {
        assert_eq!(parse(LINE), Some(Stat { parent: 17, own: 100, ended: 520 }));
        assert_eq!(parse("1 (init) S 0 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_tree_is_all_that_lives_and_all_that_ended() {
        let stat = |parent, own, ended| Stat { parent, own, ended };
        let processes =
            Processes(BTreeMap::from([(1, stat(0, 5, 1)), (2, stat(1, 10, 2)), (3, stat(2, 20, 4)), (4, stat(0, 99, 99))]));
        assert!((processes.tree_ms(1) - 420.0).abs() < 1e-9);
        assert!((processes.own_ms(2) - 100.0).abs() < 1e-9);
        assert_eq!(processes.children(1), [2]);
    }

    #[test]
    fn this_process_is_among_them() {
        let processes = Processes::now();
        assert!(processes.0.contains_key(&std::process::id()));
    }
}
