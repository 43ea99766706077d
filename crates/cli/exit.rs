//! How a command ends when it does not succeed: one clear line and an exit code that scripts can tell apart.

use std::{fmt, process::ExitCode};

pub(crate) use sinew_core::chain;

/// Why a command ended, and with which code.
#[derive(Debug)]
pub(crate) struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    /// The code of wrong usage, where clap has told why already.
    pub(crate) const USAGE: u8 = 64;

    /// It worked, and the answer is no.
    pub(crate) fn no(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// Called or configured wrongly (`EX_USAGE`).
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { code: Self::USAGE, message: message.to_string() }
    }

    /// Something needed is not to be had (`EX_UNAVAILABLE`).
    pub(crate) fn unavailable(message: impl fmt::Display) -> Self {
        Self { code: 69, message: message.to_string() }
    }

    /// The exit code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        eprintln!("sinew: {exit}");
        exit.code.into()
    }
}
