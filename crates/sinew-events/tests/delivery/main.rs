//! Events delivered without a broker: nothing lost, nothing taken in twice, whoever dies, on both databases.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "../../../sinew-sql/tests/databases/mod.rs"]
mod databases;
mod faults;
mod following;
mod rules;
mod world;
