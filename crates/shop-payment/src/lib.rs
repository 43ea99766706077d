//! The payment service: takes money once, and gives it back.

mod domain;
