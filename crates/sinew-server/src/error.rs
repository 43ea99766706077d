//! Why a server did not start or did not end well.

use std::io;

/// What ends [`crate::Server::run`] early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bound cannot be honoured.
    #[error(transparent)]
    Limits(#[from] crate::LimitsError),
    /// The mesh or admin address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which address.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The descriptor set for reflection is malformed.
    #[error("the descriptor set for reflection is malformed")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The first that was heard of the registry is that it refuses us.
    #[error("cannot register")]
    Register(#[from] sinew_core::RegisterError),
}
