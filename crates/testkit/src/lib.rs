//! Private real servers, fault injection and waiting, for tests only.
