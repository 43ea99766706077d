//! When to stop: on a signal, or when whoever started us is gone.

use crate::exit::Exit;
use tokio::{
    io::AsyncReadExt,
    signal::unix::{Signal, SignalKind, signal},
};

/// Set by the supervisor for its children: their stdin is a pipe that it holds open as long as it lives.
pub(crate) const PARENT_PIPE: &str = "SINEW_PARENT_PIPE";

/// SIGTERM and SIGINT, from the moment this is made.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over: from now on they no longer end the process.
    pub(crate) fn new() -> Result<Self, Exit> {
        let take = |kind| signal(kind).map_err(|e| Exit::unavailable(format!("cannot take signals over: {e}")));
        Ok(Self { terminate: take(SignalKind::terminate())?, interrupt: take(SignalKind::interrupt())? })
    }

    /// The next one. Cancel safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ends when the process that started us is gone, if it asked for that; else never.
///
/// The read goes through a thread that the runtime cannot end: whoever awaits this exits the process afterwards.
pub(crate) async fn parent_gone() {
    if std::env::var_os(PARENT_PIPE).is_none() {
        return std::future::pending().await;
    }
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while let Ok(1..) = stdin.read(&mut ignored).await {}
}
