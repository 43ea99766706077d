//! The rules of the client, each shown on connections made of memory and on virtual time.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod rules {
    mod balance;
    mod breaker;
    mod connection;
    mod deadline;
    mod discovery;
    mod fault;
    mod fleet;
    mod generated;
    mod going_away;
    mod hedging;
    mod observe;
    mod retry;
    mod streams;
}
mod support;
