//! Durable saga log and coordinator.
