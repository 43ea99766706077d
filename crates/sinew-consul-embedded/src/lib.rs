//! A one-machine agent that speaks the part of the HTTP API of Consul that the mesh uses.
