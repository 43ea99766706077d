//! What came out of a phase for one peer.

use super::{Args, Phase, caller::Peer};
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of the calls.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How long those took that were answered, in microseconds.
    pub(super) micros: Vec<u32>,
    /// The others, by what they said.
    pub(super) failed: BTreeMap<String, u64>,
}

impl Outcome {
    pub(super) fn count(&mut self, one: Result<u32, String>) {
        match one {
            Ok(micros) => self.micros.push(micros),
            Err(why) => *self.failed.entry(alike(&why)).or_default() += 1,
        }
    }

    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Without the numbers in which errors of one kind differ: ports, ids, times.
fn alike(why: &str) -> String {
    let mut text = String::with_capacity(why.len());
    for c in why.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }) {
        if c != '#' || !text.ends_with('#') {
            text.push(c);
        }
    }
    text
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    phase: Phase,
    /// Which of the phase's rows.
    variant: &'static str,
    peer: Peer,
    /// What must hold of Sinew; others are only measured.
    bound: &'static str,
    held: bool,
    seed: u64,
    faults: u32,
    calls: u64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    p50_us: f64,
    p99_us: f64,
    longest_ms: f64,
    /// What else was measured, by name and unit.
    #[serde(flatten)]
    figures: BTreeMap<&'static str, f64>,
}

impl Row {
    /// The bound is that no call fails, until [`bound`](Self::bound) says something else.
    pub(super) fn new(args: &Args, phase: Phase, variant: &'static str, peer: Peer, outcome: Outcome) -> Self {
        let failed = outcome.failures();
        let Outcome { mut micros, failed: failures } = outcome;
        micros.sort_unstable();
        let last = micros.len().saturating_sub(1) as f64;
        let at = |q: f64| micros.get((last * q) as usize).map_or(f64::NAN, |micros| f64::from(*micros));
        Self {
            phase,
            variant,
            peer,
            bound: "no call fails",
            held: failed == 0,
            seed: args.seed,
            faults: args.rounds,
            calls: micros.len() as u64 + failed,
            failed,
            failures,
            p50_us: at(0.5),
            p99_us: at(0.99),
            longest_ms: at(1.0) / 1_000.0,
            figures: BTreeMap::new(),
        }
    }

    pub(super) fn faults(self, faults: u32) -> Self {
        Self { faults, ..self }
    }

    pub(super) fn figure(mut self, name: &'static str, value: impl Into<Option<f64>>) -> Self {
        self.figures.extend(value.into().map(|value| (name, value)));
        self
    }

    /// Another bound.
    pub(super) fn bound(self, bound: &'static str, held: bool) -> Self {
        Self { bound, held, ..self }
    }

    /// What to say when Sinew missed its bound.
    pub(super) fn missed(&self) -> Option<String> {
        (self.peer == Peer::Sinew && !self.held)
            .then(|| format!("{}: {}: {} failed, {:?}", self.title(), self.bound, self.failed, self.figures))
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let times = if self.failed < self.calls {
            format!("; p50 {:.0} us, p99 {:.0} us, longest {:.0} ms", self.p50_us, self.p99_us, self.longest_ms)
        } else {
            String::new()
        };
        let held = if self.held { "held" } else { "MISSED" };
        println!("{}: {} of {} calls failed{times}; {}: {held}", self.title(), self.failed, self.calls, self.bound);
        for (name, value) in &self.figures {
            println!("  {name} {value:.3}");
        }
        for (why, count) in &self.failures {
            println!("  {count} × {why}");
        }
        Ok(())
    }

    fn title(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!(", {}", self.variant) };
        format!("{:?} × {}{variant}, {:?}", self.phase, self.faults, self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_only_are_one_kind() {
        let mut outcome = Outcome::default();
        for why in ["echo-0 (127.0.0.1:11411): lost", "echo-12 (127.0.0.1:80): lost", "refused"] {
            outcome.count(Err(why.to_owned()));
        }
        outcome.count(Ok(5));
        let kinds: Vec<_> = outcome.failed.iter().map(|(why, count)| (why.as_str(), *count)).collect();
        assert_eq!(kinds, [("echo-# (#.#.#.#:#): lost", 2), ("refused", 1)]);
        assert_eq!((outcome.failures(), outcome.micros), (3, vec![5]));
    }
}
