//! Consul as registry of the mesh: watches and registration.
