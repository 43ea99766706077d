//! `cargo xtask planted`: puts each bug of `sinew-core`'s `planted.rs` in, and demands that its test fails.

use crate::{
    run::{Failure, cargo, stopwatch, succeeds, with},
    servers,
};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt::Write,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

const USAGE: &str = "cargo xtask planted [--json] [bug ...]

Runs, for each bug that can be planted (or those that are named), the test that is there to catch it, with the bug put in;
a bug is caught when the place where it is was reached and the test failed. All the tests together without a bug come
first: they must pass. With --json stdout has one JSON object a bug and nothing else.";

/// Bugs of the daily slice: about a minute of them.
const SLICE: usize = 7;

/// Who catches what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Catch {
    pub(crate) bug: &'static str,
    pub(crate) package: &'static str,
    /// The file or folder of tests that it is in; empty for those beside the code.
    pub(crate) file: &'static str,
    /// The test's path in there.
    pub(crate) test: &'static str,
    /// Which of the scenarios that share one broker, if it is one of those.
    pub(crate) scenario: Option<&'static str>,
}

const fn test(bug: &'static str, package: &'static str, file: &'static str, test: &'static str) -> Catch {
    Catch { bug, package, file, test, scenario: None }
}

const fn scenario(bug: &'static str, scenario: &'static str) -> Catch {
    Catch { bug, package: "sinew-rabbitmq", file: "bus", test: "on_one_broker::sqlite", scenario: Some(scenario) }
}

/// Each bug once, and the quickest test that knows it by what it breaks.
pub(crate) const CATCHES: &[Catch] = &[
    test("SagaWithoutFence", "sinew-saga", "engine", "a_frozen_coordinator_cannot_write::sqlite"),
    test("UncertainStepKept", "sinew-saga", "", "machine::tests::a_refusal_after_an_unknown_attempt_is_undone_too"),
    test("UndoInForwardOrder", "sinew-saga", "engine", "every_step_refused_is_compensated_in_reverse::sqlite"),
    test("RefusedUndoTakenAsDone", "sinew-saga", "", "machine::tests::a_refused_undo_waits_for_an_operator"),
    test("LostUndoTakenAsDone", "sinew-saga", "engine", "undos_are_retried_until_they_succeed::sqlite"),
    test("UnknownTakenAsRefused", "sinew-saga", "engine", "every_unknown_outcome_is_tried_again::sqlite"),
    test("CancelIgnored", "sinew-saga", "engine", "a_cancel_ends_a_saga_that_waits::sqlite"),
    test("TakeoverForgetsUncertain", "sinew-saga", "engine", "a_death_at_every_boundary_is_survived::sqlite"),
    test("SagaOutsideTransaction", "shop-order", "orders", "an_order_that_is_given_up_anywhere_is_whole_or_not_there::sqlite"),
    test("EventOutsideTransaction", "shop-order", "orders", "an_order_that_is_given_up_anywhere_is_whole_or_not_there::sqlite"),
    test("KeyOutsideTransaction", "shop-order", "orders", "what_is_not_known_is_waited_for::sqlite"),
    test("KeyAnswersOtherRequests", "sinew-events", "both", "a_repeat_gets_the_first_answer::sqlite"),
    test("PositionFromTheId", "sinew-events", "both", "what_commits_late_is_read_late_and_not_skipped"),
    test(
        "PositionBeforeEffects",
        "sinew-events",
        "delivery",
        "faults::an_event_that_cannot_be_read_stops_the_subscription_and_is_shown::sqlite",
    ),
    test("FollowerWithoutFence", "sinew-events", "delivery", "faults::a_frozen_replica_writes_nothing_when_it_thaws::sqlite"),
    test("NoInbox", "sinew-events", "delivery", "faults::a_repeated_delivery_takes_effect_once::sqlite"),
    test("GapPassedOver", "sinew-events", "delivery", "faults::a_gap_is_not_passed_over::sqlite"),
    test(
        "UnreadablePassedOver",
        "sinew-events",
        "delivery",
        "faults::an_event_that_cannot_be_read_stops_the_subscription_and_is_shown::sqlite",
    ),
    test("OlderCopyWins", "shop-order", "orders", "copies::older_news_and_unknown_words_change_nothing::sqlite"),
    scenario("AckBeforeCommit", "what_was_not_acknowledged_comes_again_and_has_no_effect"),
    scenario("PositionBeforeConfirm", "what_the_broker_refuses_is_sent_again"),
    scenario("NotMandatory", "nobody_follows_and_the_relay_goes_on"),
    scenario("QueueMadeAnew", "a_queue_that_was_lost_is_made_up_for_by_the_snapshot"),
    test("RepeatReservesAgain", "shop-inventory", "", "infrastructure::tests::sqlite::a_repeat_gets_the_first_answer"),
    test(
        "ReleaseWithoutTombstone",
        "shop-inventory",
        "",
        "infrastructure::tests::sqlite::empty_compensation_leaves_a_tombstone_that_refuses_the_hanging_reserve",
    ),
    test("Oversell", "shop-inventory", "", "infrastructure::tests::sqlite::a_hundred_concurrent_orders_never_oversell"),
    test(
        "RefundWithoutTombstone",
        "shop-payment",
        "",
        "infrastructure::tests::sqlite::a_refund_of_what_never_was_refuses_the_hanging_charge",
    ),
    test("ChargeWithoutAsking", "shop-payment", "", "domain::tests::killed_at_any_await_of_charge_a_repeat_charges_once"),
    test("FlushedCatalogueServed", "shop-product", "", "infrastructure::tests::on_redis"),
];

/// What a run of a test showed.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Caught,
    /// It passed with the bug in it.
    Passed,
    /// The bug's place was never reached.
    NotReached,
    /// The test could not be built, is not there, or its machinery broke.
    NotRun,
}

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let (flags, names): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.starts_with('-'));
    if let Some(unknown) = flags.iter().find(|flag| **flag != "--json") {
        return Err(Failure::usage(format!("{unknown} is no argument of this\n\n{USAGE}")));
    }
    if let Some(unknown) = names.iter().find(|name| !CATCHES.iter().any(|c| c.bug == **name)) {
        let known: Vec<_> = CATCHES.iter().map(|c| c.bug).collect();
        return Err(Failure::usage(format!("{unknown} is no bug: {}\n\n{USAGE}", known.join(", "))));
    }
    let wanted: Vec<_> = CATCHES.iter().filter(|c| names.is_empty() || names.iter().any(|name| *name == c.bug)).collect();
    if !succeeds(cargo().args(["nextest", "--version"])) {
        return Err(Failure::missing("cargo-nextest is not installed: only it tells a failed test from one that was not run"));
    }
    let path = servers::path()?;
    // Without a bug they pass, so it is the bug that makes one fail.
    if !with(&path, &mut nextest(&wanted)).stdin(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Err(Failure::no("planted: the tests do not pass without a bug"));
    }
    all_caught(&wanted, &path, !flags.is_empty())
}

/// Some of them, others tomorrow, after all tests have passed.
pub(crate) fn slice(path: &OsStr) -> Result<(), Failure> {
    let days = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs() / 86_400;
    let first = usize::try_from(days).unwrap_or_default().wrapping_mul(SLICE) % CATCHES.len();
    let wanted: Vec<_> = CATCHES.iter().cycle().skip(first).take(SLICE).collect();
    let names: Vec<_> = wanted.iter().map(|c| c.bug).collect();
    eprintln!("planted: today {} (all: `cargo xtask planted`)", names.join(", "));
    all_caught(&wanted, path, false)
}

fn all_caught(wanted: &[&Catch], path: &OsStr, json: bool) -> Result<(), Failure> {
    let began = stopwatch();
    let mut missed = Vec::new();
    for catch in wanted {
        let (verdict, took, said) = plant(catch, &mut nextest(&[*catch]), path)?;
        if json {
            println!("{}", as_json(catch, &verdict, took));
        } else {
            println!("{:<9} {:<26} {:>5.1} s  {}", verdict.word(), catch.bug, took.as_secs_f64(), catch.name());
        }
        if verdict != Verdict::Caught {
            eprintln!("{said}");
            missed.push(catch.bug);
        }
    }
    let (all, took) = (wanted.len(), began.elapsed().as_secs_f64());
    eprintln!("planted: {} of {all} bugs caught in {took:.0} s", all - missed.len());
    if missed.is_empty() { Ok(()) } else { Err(Failure::no(format!("planted: not caught: {}", missed.join(", ")))) }
}

/// Just these tests, of the build that `cargo xtask test` made.
fn nextest(of: &[&Catch]) -> Command {
    let mut filter = String::new();
    for catch in of {
        let or = if filter.is_empty() { "" } else { " or " };
        let _ = write!(filter, "{or}(package(={}) and test(={}))", catch.package, catch.test);
    }
    let mut command = cargo();
    command.args(["nextest", "run", "--workspace", "--no-fail-fast", "--cargo-quiet", "--color", "never"]);
    command.args(["--failure-output", "final", "-E", &filter]);
    // The features are those of the whole workspace, so that nothing is built anew; and only what is needed is.
    for file in of.iter().map(|catch| catch.file).collect::<BTreeSet<_>>() {
        match file {
            "" => command.arg("--lib"),
            file => command.args(["--test", file]),
        };
    }
    command
}

fn plant(catch: &Catch, nextest: &mut Command, path: &OsStr) -> Result<(Verdict, Duration, String), Failure> {
    nextest.env("SINEW_PLANTED", catch.bug).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    if let Some(scenario) = catch.scenario {
        nextest.env("SINEW_TEST_SCENARIO", scenario);
    }
    let began = stopwatch();
    let output = with(path, nextest).output().map_err(|e| Failure::missing(format!("nextest cannot be started: {e}")))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((verdict(catch.bug, output.status.code(), &said), began.elapsed(), said))
}

/// By nextest's exit code, and by the line that a bug writes when its place is reached.
fn verdict(bug: &str, code: Option<i32>, said: &str) -> Verdict {
    let reached = said.lines().any(|line| line.trim() == format!("planted: {bug}"));
    match code {
        Some(100) if reached => Verdict::Caught,
        Some(100) => Verdict::NotReached,
        Some(0) => Verdict::Passed,
        _ => Verdict::NotRun,
    }
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Passed => "NOT SEEN",
            Self::NotReached => "UNREACHED",
            Self::NotRun => "NOT RUN",
        }
    }
}

impl Catch {
    /// As a person looks for it.
    fn name(&self) -> String {
        let file = if self.file.is_empty() { String::new() } else { format!("::{}", self.file) };
        format!("{}{file} {}{}", self.package, self.test, self.scenario.map(|s| format!(" ({s})")).unwrap_or_default())
    }

    /// The function that holds the test.
    pub(crate) fn function(&self) -> &'static str {
        let part = |name: &'static str| name.trim_end_matches("::sqlite").rsplit("::").next().unwrap_or(name);
        part(self.scenario.unwrap_or(self.test))
    }
}

fn as_json(catch: &Catch, verdict: &Verdict, took: Duration) -> String {
    let caught = *verdict == Verdict::Caught;
    format!(
        r#"{{"bug":"{}","test":"{}","caught":{caught},"verdict":"{}","seconds":{:.1}}}"#,
        catch.bug,
        catch.name(),
        verdict.word().to_lowercase(),
        took.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_test_that_reached_the_bug_is_a_catch() {
        let reached = "  planted: NoInbox\n";
        assert_eq!(verdict("NoInbox", Some(100), reached), Verdict::Caught);
        assert_eq!(verdict("NoInbox", Some(100), "planted: NoInboxes\n"), Verdict::NotReached);
        assert_eq!(verdict("NoInbox", Some(0), reached), Verdict::Passed);
        for (code, what) in [(Some(4), "no such test"), (Some(101), "it does not build"), (None, "ended by a signal")] {
            assert_eq!(verdict("NoInbox", code, reached), Verdict::NotRun, "{what}");
        }
    }

    #[test]
    fn a_test_is_known_by_its_function() {
        let names =
            [test("A", "p", "", "m::it_holds::sqlite"), test("A", "p", "", "m::sqlite::it_holds"), scenario("A", "it_holds")];
        assert!(names.iter().all(|catch| catch.function() == "it_holds"));
    }

    #[test]
    fn json_is_an_object_a_line() {
        let line = as_json(&scenario("A", "s"), &Verdict::Passed, Duration::from_millis(1_250));
        let test = "sinew-rabbitmq::bus on_one_broker::sqlite (s)";
        assert_eq!(line, format!(r#"{{"bug":"A","test":"{test}","caught":false,"verdict":"not seen","seconds":1.2}}"#));
    }
}
