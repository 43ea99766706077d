//! The mesh in one thread: its own clients and servers in simulated time, on a simulated network, with a registry that is
//! simulated too.
//!
//! A run is its seed: callers, servers, what is called, what goes wrong and when are drawn from it, and [`run()`] with the same
//! seed tells the same lines, in the same process or another. Processes die with a word or without, drain, are slow or
//! fail their calls; links lose what is sent, in both directions or one, or hold it back; the registry dies, is late, tells
//! of the past, forgets everything and slanders servers. Then everything heals. What must hold is in `promises.rs`.
//!
//! Every time of the mesh's settings is a tenth of its default: proportions stay, and a run takes about a second.
//!
//! Limits. TCP here does not retransmit: what a link loses is lost for its connection for ever, which is a black hole until
//! the client's keepalive ends it. The registry speaks a protocol of its own; what is simulated is when and whether it
//! answers and what it says. Its clients here keep to what `sinew-consul` does, whose own code needs a real network.

mod caller;
mod campaign;
mod directory;
mod echo;
mod fault;
mod promises;
mod registry;
mod run;
mod server;
mod settings;
mod world;

pub use campaign::{Tally, campaign};
pub use run::{Outcome, faults, run};
