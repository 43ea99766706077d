//! How a command ends when it does not succeed: one clear line and an exit code that scripts can tell apart.

use std::{fmt, process::ExitCode};

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

/// An error with everything that caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // Some layers repeat what is below them.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    line
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_chain_tells_each_cause_once() {
        let inner = std::io::Error::other("refused");
        let outer = std::io::Error::other(inner);
        assert_eq!(super::chain(&outer), "refused");
    }
}
