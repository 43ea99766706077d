//! Private Consul agents.
