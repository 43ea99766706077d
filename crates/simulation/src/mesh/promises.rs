//! What the mesh promises, and whether a run kept it.
//!
//! A failure is no breach by itself: servers die. Each promise says under which harm a call may fail, from when to when that
//! harm lasts, and why; the lengths come from the client's settings ([`Bounds`]).

use super::{
    echo::Kind,
    settings::{ATTEMPTS, Bounds, RETRYABLE, TIMEOUT},
    world::{CALLERS, Call, End, Harm, How, Ledger, Spell},
};
use std::{collections::BTreeMap, time::Duration};
use tonic::Code;

/// How much later than its deadline a call may end: timers tick in milliseconds, processes in two of them.
const SLACK: Duration = Duration::from_millis(5);

/// Why a call must succeed.
const QUIET: &str = "nobody's calls fail without harm to a server";
const DRAINED: &str = "nobody's calls fail because a server drains";
const REPEATED: &str = "what may be repeated survives fewer faults than it has attempts";

/// How often each of these was put to the test.
pub(super) type Tested = BTreeMap<&'static str, usize>;

/// One run, looked at afterwards.
pub(super) struct Review<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) bounds: Bounds,
    pub(super) servers: &'a [&'static str],
    /// When the last fault was over.
    pub(super) healed: Duration,
}

impl Review<'_> {
    /// What was not kept, in words, and how often each promise mattered.
    pub(super) fn breaches(&self) -> (Vec<String>, Tested) {
        let mut tested = Tested::new();
        let mut wrong = self.once();
        for call in &self.ledger.calls {
            let Some(end) = &call.end else {
                wrong.push(format!("{} never ended", name(call)));
                continue;
            };
            if end.at > call.begun + call.timeout + SLACK {
                wrong.push(format!("{} ended {:?} after its deadline", name(call), end.at - call.begun - call.timeout));
            }
            if let Some(breach) = self.success(call, end, &mut tested).or_else(|| self.reason(call, end)) {
                wrong.push(breach);
            }
        }
        wrong.extend(self.amplification());
        wrong.extend(self.recovery());
        wrong.extend(self.rest());
        (wrong, tested)
    }

    // === how often ===

    /// What must not be repeated is executed once at most, and what may be as often as it has attempts.
    fn once(&self) -> Vec<String> {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        self.ledger.executions.iter().for_each(|(call, ..)| *counts.entry(*call).or_default() += 1);
        let most = |call: &Call| if call.kind == Kind::Get { ATTEMPTS } else { 1 };
        let calls = self.ledger.calls.iter().map(|call| (call, counts.get(&call.id).copied().unwrap_or_default()));
        calls.filter(|(call, n)| *n > most(call)).map(|(call, n)| format!("{} was executed {n} times", name(call))).collect()
    }

    /// Callers repeat no more than their budget allows: in no time between two calls, and so neither in the whole run.
    fn amplification(&self) -> Vec<String> {
        let (ratio, per_second, saved) = self.bounds.retries;
        let mut wrong = Vec::new();
        for (caller, host) in CALLERS.iter().enumerate() {
            let seen = &self.ledger.retries[caller];
            let worst = seen.iter().enumerate().flat_map(|(n, (from, before))| {
                // One more for what rounding and the first call itself pay in.
                let over = move |(calls, (to, after)): (usize, &(Duration, u64))| {
                    let allowed = saved + ratio * calls as f64 + per_second * (*to - *from).as_secs_f64() + 1.0;
                    let made = after - before;
                    (made as f64 > allowed).then(|| format!("{made} retries from {from:?} to {to:?}, allowed were {allowed:.1}"))
                };
                seen[n..].iter().enumerate().filter_map(over)
            });
            wrong.extend(worst.take(1).map(|worst| format!("{host} made {worst}")));
        }
        wrong
    }

    // === whether ===

    /// Two promises. With nothing that can lose a call, every call succeeds, whoever drains and whatever the registry says. With
    /// harm to fewer servers, or less often, than it has attempts, a call that may be repeated succeeds. Such harm is what is lost,
    /// and what fails with a code that is retried; a server that is slow takes the time that further attempts would need.
    fn success(&self, call: &Call, end: &End, tested: &mut Tested) -> Option<String> {
        let How::Failed(code, message) = &end.how else {
            self.count(call, end, tested);
            return None;
        };
        let promise = self.promised(call, end)?;
        *tested.entry(promise).or_default() += 1;
        Some(format!("{} ended with {code:?} ({message}), though promised: {promise}", name(call)))
    }

    fn count(&self, call: &Call, end: &End, tested: &mut Tested) {
        if let Some(promise) = self.promised(call, end).filter(|_| end.how != How::GivenUp) {
            *tested.entry(promise).or_default() += 1;
        }
    }

    /// Why this call must succeed, if it must.
    fn promised(&self, call: &Call, end: &End) -> Option<&'static str> {
        // Those with little time may need all of it for the work itself.
        if call.timeout < TIMEOUT || !self.has_good(call.caller, call.begun, end.at) {
            return None;
        }
        let (mut faults, mut away) = (0, false);
        for spell in self.ledger.spells.iter().filter(|spell| spell.concerns(call.caller)) {
            match spell.harm {
                Harm::Lost => faults += usize::from(spell.meets(call.begun, end.at, self.bounds.connected)),
                Harm::Away => away |= spell.meets(call.begun, end.at, Duration::ZERO),
                // Each attempt goes to another server: one that fails costs one of them.
                Harm::Fails(RETRYABLE) => faults += usize::from(spell.meets(call.begun, end.at, Duration::ZERO)),
                Harm::Slow | Harm::Fails(_) if spell.meets(call.begun, end.at, Duration::ZERO) => return None,
                Harm::Slow | Harm::Fails(_) => {}
            }
        }
        match (faults, call.kind) {
            (0, _) if away => Some(DRAINED),
            (0, _) => Some(QUIET),
            (1.., Kind::Get) if faults < ATTEMPTS && end.refused == 0 => Some(REPEATED),
            _ => None,
        }
    }

    /// Whether there is a server that this caller knows, is connected to and trusts, all the time.
    fn has_good(&self, caller: usize, from: Duration, to: Duration) -> bool {
        self.servers.iter().any(|server| {
            self.is_listed(caller, server, from.saturating_sub(self.bounds.connected), to)
                && !self.ledger.spells.iter().filter(|spell| spell.server == *server && spell.concerns(caller)).any(|spell| {
                    let after = match spell.harm {
                        Harm::Slow | Harm::Fails(_) => self.bounds.trusted,
                        Harm::Lost | Harm::Away => self.bounds.connected,
                    };
                    spell.meets(from, to, after)
                })
        })
    }

    /// Whether this caller's list has had it, passing, all the time.
    fn is_listed(&self, caller: usize, server: &str, from: Duration, to: Duration) -> bool {
        let lists = &self.ledger.lists[caller];
        let first = lists.partition_point(|(at, _)| *at <= from).checked_sub(1);
        let during = first.map(|first| lists[first..].iter().take_while(|(at, _)| *at <= to));
        during.is_some_and(|mut lists| lists.all(|(_, list)| list.get(server) == Some(&true)))
    }

    /// A failure says why: its code is that of a harm there was.
    fn reason(&self, call: &Call, end: &End) -> Option<String> {
        let How::Failed(code, message) = &end.how else { return None };
        let spells = || self.ledger.spells.iter().filter(|spell| spell.concerns(call.caller));
        let harmed = |harm: Harm, after| spells().any(|spell| spell.harm == harm && spell.meets(call.begun, end.at, after));
        let unreachable = harmed(Harm::Lost, self.bounds.connected) || !self.has_good(call.caller, call.begun, end.at);
        let explained = match code {
            Code::DeadlineExceeded => call.timeout < TIMEOUT || unreachable || harmed(Harm::Slow, Duration::ZERO),
            Code::Unavailable => unreachable || harmed(Harm::Fails(*code), Duration::ZERO),
            _ => harmed(Harm::Fails(*code), Duration::ZERO),
        };
        let told = !message.is_empty();
        (!explained || !told).then(|| format!("{} ended with {code:?} ({message:?}), which nothing explains", name(call)))
    }

    // === afterwards ===

    /// When everything has healed and was given time, every call succeeds, and every server has its share.
    fn recovery(&self) -> Vec<String> {
        let from = self.healed + self.bounds.trusted;
        let mut wrong = Vec::new();
        for (caller, host) in CALLERS.iter().enumerate() {
            let calls: Vec<_> = self.ledger.calls.iter().filter(|call| call.caller == caller && call.begun >= from).collect();
            let mut shares: BTreeMap<&str, usize> = self.servers.iter().map(|server| (*server, 0)).collect();
            for call in &calls {
                match call.end.as_ref().map(|end| &end.how) {
                    Some(How::Answered(by)) => *shares.entry(by).or_default() += 1,
                    Some(How::Failed(code, message)) if call.timeout == TIMEOUT => {
                        wrong.push(format!("{} ended with {code:?} ({message}) after everything had healed", name(call)));
                    }
                    _ => {}
                }
            }
            // A quarter of an even share: calls are few, and chance is in every policy but one.
            let least = calls.len() / self.servers.len() / 4;
            if least == 0 || shares.values().any(|share| *share < least) {
                wrong.push(format!("{host} spreads {} calls {shares:?} after everything had healed", calls.len()));
            }
        }
        wrong
    }

    /// Without calls nothing is under way.
    fn rest(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (caller, host) in CALLERS.iter().enumerate() {
            match self.ledger.rests.get(&caller) {
                Some(rest) if (rest.described, rest.calls, rest.attempts) != (0, 0, 0) => {
                    wrong.push(format!("{host} has no calls and keeps something of them: {rest:?}"));
                }
                Some(rest) if !rest.endpoints.is_empty() => wrong.push(format!("{host} does not recover: {}", rest.endpoints)),
                Some(_) => {}
                None => wrong.push(format!("{host} did not come to rest")),
            }
        }
        if self.ledger.running > 0 {
            wrong.push(format!("{} handlers work for nobody", self.ledger.running));
        }
        wrong
    }
}

impl Spell {
    fn concerns(&self, caller: usize) -> bool {
        self.caller.is_none_or(|only| only == caller)
    }

    /// Whether it, or what it leaves behind for so long, falls into this time.
    fn meets(&self, from: Duration, to: Duration, after: Duration) -> bool {
        self.from <= to && self.to.is_none_or(|end| from <= end + after)
    }
}

fn name(call: &Call) -> String {
    format!("{:?} {} of {}, begun at {} ms,", call.kind, call.id, CALLERS[call.caller], call.begun.as_millis())
}
