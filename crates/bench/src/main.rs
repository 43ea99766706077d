//! Benchmarks: the mesh against what it replaces, events, sagas and whole orders against what their engines can do.
//!
//! `bench channel` compares a Sinew channel, everything on, with those of other makers or with a pair of sidecars. It starts
//! itself again as server and client processes, each pinned to a core, so that neither side's work is counted as the other's.

mod bounds;
mod call;
mod channel;
mod drain;
mod drive;
mod echo;
mod events;
mod faults;
mod gateway;
mod load;
mod logins;
mod measure;
mod orders;
mod peers;
mod pick;
mod registry;
mod relay;
mod report;
mod rival;
mod sagas;
mod serve;
mod slow;

use clap::{Parser, Subcommand};

/// The allocator of both peers and of the server: what differs is the channel.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Benchmarks of the mesh, of events, of sagas and of the whole shop")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A Sinew channel against tonic's balanced one, or another maker's: unary echo of 100 bytes over three endpoints.
    Channel(channel::Args),
    /// What many endpoints cost: a pick, a change of one of them, memory.
    Pick(pick::Args),
    /// A flood of log-ins beside other requests, against a running system.
    Logins(logins::Args),
    /// From commit to effect: events at a steady rate between two databases, by the mesh or by RabbitMQ.
    Events(events::Args),
    /// A consumer that catches up when the broker was away.
    Drain(drain::Args),
    /// The relay to RabbitMQ against its bare client.
    Relay(relay::Args),
    /// Orders through the whole system: how many a second, and what each costs.
    Orders(orders::Args),
    /// A restarted coordinator with many open sagas.
    Sagas(sagas::Args),
    /// One slow endpoint of several: who avoids it, and what callers feel.
    Slow(slow::Args),
    /// Servers killed, frozen, cut off, failing and overloaded under a steady load: which calls fail?
    Faults(faults::Args),
    /// A process that picks, to be counted.
    #[command(hide = true)]
    Picks(pick::Picks),
    /// A client process that knows many endpoints.
    #[command(hide = true)]
    Fleet(pick::FleetArgs),
    /// The server process.
    #[command(hide = true)]
    Serve(serve::Args),
    /// A client process.
    #[command(hide = true)]
    Call(call::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Channel(args) => channel::run(&args),
        Command::Pick(args) => pick::run(&args),
        Command::Picks(args) => pick::picks(&args),
        Command::Fleet(args) => pick::client(&args),
        Command::Logins(args) => logins::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Relay(args) => relay::run(&args),
        Command::Orders(args) => orders::run(&args),
        Command::Sagas(args) => sagas::run(&args),
        Command::Slow(args) => slow::run(&args),
        Command::Faults(args) => faults::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Call(args) => call::run(&args),
    }
}
