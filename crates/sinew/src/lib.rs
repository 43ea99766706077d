//! The mesh, linked: discovery, balancing, breaking, retries, registration and drain for tonic services.
