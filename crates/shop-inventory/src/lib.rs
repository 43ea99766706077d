//! The inventory service: how much of each product there is, and for whom.

mod domain;
