//! The port through which connections are opened, so that a simulated network can take the real one's place.

use crate::{BoxFuture, Endpoint};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Any byte stream. One virtual call per read or write, each of which is a system call anyway.
pub type BoxIo = Box<dyn Io>;

/// Opens byte streams to endpoints.
pub trait Connector: fmt::Debug + Send + Sync {
    /// Opens one stream. The caller bounds it in time and drops it when it is no longer wanted.
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>>;
}
