//! `cargo xtask faults`: faults at length, on real servers; exits non-zero when a bound is missed.

use crate::{
    run::{self, Failure, cargo, with},
    servers,
};

const USAGE: &str = "cargo xtask faults sagas [--budget 45m] [--seed 1] [--json]

Every fault (kill, freeze, panic, everything twice) at every place of the order saga and its participants, on Consul,
PostgreSQL and RabbitMQ; then pairs of kills, in an order drawn by the seed, for as long as the budget lasts.
With --json stdout has one JSON object a line and nothing else.";

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let [what, args @ ..] = args else { return Err(Failure::usage(USAGE)) };
    if what != "sagas" {
        return Err(Failure::usage(USAGE));
    }
    let (mut budget, mut seed, mut json, mut rest) = (45 * 60, 1, false, args.iter());
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| Failure::usage(format!("{arg} needs a value\n\n{USAGE}")));
        match arg.as_str() {
            "--json" => json = true,
            "--budget" => {
                budget = value().and_then(|v| seconds(v).ok_or_else(|| Failure::usage("--budget: write 90s, 45m or 2h")))?
            }
            "--seed" => seed = value()?.parse().map_err(|_| Failure::usage("--seed: a number"))?,
            _ => return Err(Failure::usage(format!("{arg} is no argument of this\n\n{USAGE}"))),
        }
    }
    let path = servers::path()?;
    let mut tests = cargo();
    tests.args(["test", "--quiet", "--package", "sinew-cli", "--test", "e2e", "--"]);
    tests.args(["--exact", "faults::any_fault_at_any_place_leaves_one_story_on_real_engines", "--nocapture"]);
    tests.env("SINEW_FAULTS_BUDGET", budget.to_string()).env("SINEW_FAULTS_SEED", seed.to_string());
    let tests = with(&path, &mut tests);
    if json { run::lines(tests, |line| line.starts_with('{')) } else { run::run(tests) }
}

fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    #[test]
    fn budgets_have_a_unit() {
        let read = ["90s", "45m", "2h", "45", "", "m", "-1m", "1d"].map(super::seconds);
        assert_eq!(read, [Some(90), Some(2_700), Some(7_200), None, None, None, None, None]);
    }
}
