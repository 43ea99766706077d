//! The tower stack that turns a service name into a channel.
