//! Repository chores, one command each, without a single dependency: they build before anything else does.

mod bench;
mod faults;
mod peers;
mod planted;
mod run;
mod servers;
mod test;
mod tidy;

use run::Failure;
use std::process::ExitCode;

const USAGE: &str = "cargo xtask <command>

  test [nextest arguments]   every test, on real servers too; installs what it may, names what it may not
  tidy                       the invariants that no compiler checks
  bench <name> [arguments]   a benchmark, in release: `cargo xtask bench channel`
  faults mesh                servers that die, hang, fail and are overloaded under load; `--phases`, `--peers`, `--json`
  faults sagas               processes, databases and brokers that fail under load; `--budget 45m`, `--phase`, `--json`
  planted [--json] [bug …]   puts bugs in, and demands that the test which is there to catch each fails
  tools                      only fetches what tests need (Consul, grpcurl, servers)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = args.split_first().map_or(("", &[][..]), |(c, r)| (c.as_str(), r));
    let done = match command {
        "test" => test::run(rest),
        "tidy" => tidy::run(),
        "bench" => bench::run(rest),
        "faults" => faults::run(rest),
        "planted" => planted::run(rest),
        "tools" => servers::ensure().map(drop),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(Failure::usage(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
