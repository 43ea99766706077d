//! `sinew token`: a bearer token of the development issuer.

use crate::{exit::Exit, issuer::Issuer, output};
use sinew_core::{Clock, SystemClock};
use sinew_server::Role;
use std::{path::PathBuf, time::Duration};

/// A bearer token of the development issuer, on stdout.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose token: a user's id.
    #[arg(long, default_value = crate::seed::CUSTOMER_ID, value_parser = user_id)]
    user: String,

    /// An administrator's token.
    #[arg(long)]
    admin: bool,

    /// How long it is good for: `90s`, `15m`, `12h`.
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,

    /// Where `sinew up` keeps its data.
    #[arg(long, env = "SINEW_DATA_DIR", default_value = crate::DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Exit> {
    let role = if args.admin { Role::Admin } else { Role::Customer };
    let token = Issuer::open(&args.data_dir)?.token(&args.user, role, SystemClock.now(), args.ttl);
    output::write(&format!("{token}\n"))
}

fn user_id(text: &str) -> Result<String, String> {
    uuid::Uuid::parse_str(text).map(|id| id.to_string()).map_err(|e| format!("no user's id (a UUID): {e}"))
}

/// A whole number of seconds, minutes or hours, up to a day: a development token that outlives its day gets forgotten
/// somewhere.
fn duration(text: &str) -> Result<Duration, String> {
    const DAY: u64 = 24 * 60 * 60;
    let units = [('s', 1), ('m', 60), ('h', 60 * 60)];
    let wrong = || "a whole number and s, m or h, up to 24h: 90s, 15m".to_owned();
    let (number, seconds) = units.iter().find_map(|(unit, s)| Some((text.strip_suffix(*unit)?, *s))).ok_or_else(wrong)?;
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(seconds)).ok_or_else(wrong)?;
    if (1..=DAY).contains(&seconds) { Ok(Duration::from_secs(seconds)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit_within_a_day() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for wrong in ["", "1", "0s", "25h", "-1s", "1d", "99999999999999999999h", "1.5m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
