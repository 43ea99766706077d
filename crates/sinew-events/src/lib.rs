//! Transactional outbox, inbox and broker ports.
