//! Work that spans services, and is either done or taken back whatever dies.
//!
//! A [`Definition`] lists steps; each has an effect in another service and a way to take it back. A saga begins in the
//! transaction that creates its aggregate ([`Sagas::start`]); a [`Coordinator`] in every replica drives it:
//!
//! - each step's outcome is recorded in one transaction with what it means for the aggregate and with its event;
//! - a saga's row has an owner, a lease and an epoch. When an owner dies, another replica takes over once the lease ends,
//!   under the next epoch; whatever the old owner still writes is refused;
//! - a refused step turns the saga back; an unknown outcome is tried again for a while, then counts as an effect;
//! - undos run in reverse and are retried until they succeed; one that is refused parks the saga for an operator.
//!
//! What to do next is decided by a pure function, [`decide`], which the property tests exercise alone. Clocks of replicas
//! may differ: too early a take-over costs a repeated call and a refused write, never a second effect.

mod admin;
mod boundary;
mod coordinator;
mod definition;
mod drive;
mod machine;
mod meter;
mod sagas;
mod schema;
mod store;

pub use admin::Admin;
pub use boundary::Probe;
pub use coordinator::{Config, Coordinator};
pub use definition::{Data, Definition, Failure, Instance, OutputError, Recorder, Step, StepTiming, Timing, failpoints};
pub use machine::{Change, Circumstances, Decision, Event, Phase, Reason, State, decide};
pub use sagas::{CancelOutcome, Error, Filter, Saga, Sagas};
pub use schema::migrations;
pub use store::LogEntry;
