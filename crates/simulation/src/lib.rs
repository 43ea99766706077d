//! The shop in one thread: its services' own code in simulated time (turmoil), on a simulated network and on SQLite in memory.
//!
//! A run is a [`Plan`]: the same plan is the same run, so that one in which something went wrong can be looked at again
//! (`docs/simulation.md` says what that took). The mesh alone, with its own faults and promises, is in [`mesh`].
//!
//! Processes die at places or at times, links hang or are cut, databases are slow, stall past all leases, or lose a
//! connection, also between a commit and its answer. Then everything is mended, and within [`TERMINAL`] every order must
//! have ended and everybody's books must be one story.
//!
//! Whatever takes seconds in the world (leases, patience, breakers) takes tenths of them here: proportions stay, and
//! thousands of runs take minutes.

mod campaign;
mod customer;
pub mod mesh;
mod network;
mod processes;
mod run;
mod stage;

pub use campaign::{Campaign, Tally, pairs, seeds, singles};
pub use run::{Outcome, Plan, TERMINAL, places, run};
