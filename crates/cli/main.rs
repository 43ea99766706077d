//! The sinew command: runs the system, its services, and the tools to look at them.
//!
//! stdout carries data and nothing else, stderr everything else. Exit codes: 0 it worked, 1 the answer is no, 64 called
//! or configured wrongly, 69 something needed is not to be had.

mod admin;
mod agent;
mod demo;
mod dlq;
mod events;
mod exit;
mod http;
mod issuer;
mod keys;
mod load;
mod login;
mod output;
mod registry;
mod run;
mod sagas;
mod seed;
mod services;
mod shutdown;
mod token;
mod up;

use clap::{Parser, error::ErrorKind};
use exit::Exit;
use std::process::ExitCode;

/// Mimalloc keeps many small, short-lived buffers cheap, which is what a call is made of.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where data lies when nothing else is said.
const DEFAULT_DATA_DIR: &str = ".sinew";

/// A gRPC service mesh that you link instead of run, and a shop that runs on it.
#[derive(Debug, Parser)]
#[command(name = "sinew", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Up(up::Args),
    Run(run::Args),
    Services(services::Args),
    Sagas(sagas::Args),
    Events(events::Args),
    Load(load::Args),
    Login(login::Args),
    Admin(admin::Args),
    Token(token::Args),
    Seed(seed::Args),
    Agent(agent::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that was asked for goes to stdout, a complaint to stderr. Neither can be told if they are closed.
            error.print().ok();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => Exit::USAGE.into(),
            };
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::unavailable(format!("cannot start: {error}")).into(),
    };
    let done = runtime.block_on(dispatch(cli.command));
    // Whatever still blocks a thread (a read from stdin, say) must not hold up the end.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.into(),
    }
}

async fn dispatch(command: Command) -> Result<(), Exit> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Run(args) => run::run(args).await,
        Command::Services(args) => services::run(args).await,
        Command::Sagas(args) => sagas::run(args).await,
        Command::Events(args) => events::run(args).await,
        Command::Load(args) => load::run(args).await,
        Command::Login(args) => login::run(args).await,
        Command::Admin(args) => admin::run(args).await,
        Command::Token(args) => token::run(&args),
        Command::Seed(args) => seed::run(args).await,
        Command::Agent(args) => agent::run(args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
