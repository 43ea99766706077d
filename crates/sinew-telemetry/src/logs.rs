//! Logs to standard error, as text for people or JSON for machines.

use std::{env, str::FromStr};
use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

/// What is logged when nobody says: state changes.
const DEFAULT_LEVEL: &str = "info";

/// Libraries that say too much unless somebody asks: the 2021 HTTP stack logs every request, and lapin each error that we
/// are given too.
const QUIET: &str = "consulrs=warn,rustify=warn,lapin=off";

/// Never, whoever asks: lapin logs messages that no queue wanted, with all that is in them.
const SECRET: &str = "lapin::returned_messages=off";

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A logging setting that cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `SINEW_LOG` is no filter.
    #[error("SINEW_LOG={value:?} is no log filter ({reason}); write levels and targets as in \"info,sinew_client=debug\"")]
    Filter {
        /// What it was.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `SINEW_LOG_FORMAT` is neither of the two.
    #[error("SINEW_LOG_FORMAT={0:?} is no log format; use \"text\" or \"json\"")]
    Format(String),
}

impl FromStr for Format {
    type Err = LogError;
    fn from_str(s: &str) -> Result<Self, LogError> {
        match s {
            "" | "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// Sets logging up for the process from `SINEW_LOG` and `SINEW_LOG_FORMAT`. A second call changes nothing.
///
/// # Errors
///
/// A variable that cannot be honoured; nothing is set up then.
pub fn init_logs() -> Result<(), LogError> {
    let filter = env::var("SINEW_LOG").unwrap_or_default();
    let format: Format = env::var("SINEW_LOG_FORMAT").unwrap_or_default().parse()?;
    let filter = filter_from(&filter)?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // An error means that somebody set logging up already, a test perhaps: theirs stays.
    let _ = match format {
        Format::Text => builder.finish().try_init(),
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    Ok(())
}

fn filter_from(value: &str) -> Result<EnvFilter, LogError> {
    // The quiet ones first: whoever names one of them hears it.
    let value = if value.is_empty() { DEFAULT_LEVEL } else { value };
    let text = format!("{QUIET},{value},{SECRET}");
    EnvFilter::builder().parse(text).map_err(|e| LogError::Filter { value: value.to_owned(), reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::{Format, LogError, filter_from};

    #[test]
    fn bad_settings_are_refused_by_name() {
        assert!(filter_from("info,sinew_client=debug").is_ok());
        let error = filter_from("info,=,[").expect_err("no filter").to_string();
        assert!(error.contains("SINEW_LOG=\"info,=,[\""), "{error}");
        assert_eq!("json".parse::<Format>().ok(), Some(Format::Json));
        assert!(matches!("xml".parse::<Format>(), Err(LogError::Format(f)) if f == "xml"));
    }
}
