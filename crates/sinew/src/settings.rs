//! What one process of the mesh is told from outside.

use sinew_core::fault_injection::FaultInjection;
use std::{env, net::SocketAddr, path::PathBuf};

/// Every setting of a service that is not the registry's own; each from one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `SINEW_LISTEN`: address of the mesh port; port 0 takes a free one, which the registry tells the others.
    pub listen: SocketAddr,
    /// `SINEW_ADVERTISE`: host that is written into the registry, where the listen address's will not do.
    pub advertise_host: Option<String>,
    /// The port of `SINEW_ADVERTISE`, if it has one.
    pub advertise_port: Option<u16>,
    /// `SINEW_ADMIN`: address of the admin port.
    pub admin: SocketAddr,
    /// `SINEW_INSTANCE`: id of this instance, stable over restarts of its slot; `<service>-0` by default.
    pub instance: Option<String>,
    /// `SINEW_ZONE`: the zone that it is in, which the registry tells the others; calls stay in their caller's zone while enough
    /// endpoints there are healthy.
    pub zone: Option<String>,
    /// `SINEW_DATA_DIR`: folder of the embedded stores.
    pub data_dir: PathBuf,
    /// `SINEW_PRIORITY`: 0 for the first choice; instances of a higher one stand by until too few of the lower are healthy.
    pub priority: u8,
    /// `SINEW_FAULTS`: faults put into its outgoing calls on purpose, as JSON.
    pub faults: Option<FaultInjection>,
    /// `SINEW_ADAPTIVE_CONCURRENCY`: whether the server's limit of calls under way follows latency.
    pub adaptive_concurrency: bool,
    /// `SINEW_JWKS`: file with the keys that verify tokens.
    pub jwks: Option<PathBuf>,
}

/// A variable whose value cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value:?}: {reason}")]
pub struct SettingsError {
    /// Which variable.
    pub variable: &'static str,
    /// What it was.
    pub value: String,
    /// What would be right.
    pub reason: String,
}

impl Default for Settings {
    fn default() -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: any_port,
            advertise_host: None,
            advertise_port: None,
            admin: any_port,
            instance: None,
            zone: None,
            priority: 0,
            faults: None,
            adaptive_concurrency: false,
            data_dir: ".sinew".into(),
            jwks: None,
        }
    }
}

impl Settings {
    /// The id of this instance of a service: the one given, or `<service>-0`.
    pub fn instance(&self, service: &str) -> String {
        self.instance.clone().unwrap_or_else(|| format!("{service}-0"))
    }

    /// Reads the environment; an empty variable is as good as none.
    ///
    /// # Errors
    ///
    /// The first variable that cannot be honoured.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::from_vars(|name| env::var(name).ok())
    }

    fn from_vars(get: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name| get(name).filter(|v: &String| !v.is_empty());
        let defaults = Self::default();
        let address = |variable, default| match get(variable) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| SettingsError {
                variable,
                value,
                reason: "not an address; write ip:port as in 0.0.0.0:50051".into(),
            }),
        };
        let (listen, admin) = (address("SINEW_LISTEN", defaults.listen)?, address("SINEW_ADMIN", defaults.admin)?);
        let (advertise_host, advertise_port) = match get("SINEW_ADVERTISE") {
            None => (None, None),
            Some(value) => advertise(&value).ok_or_else(|| SettingsError {
                variable: "SINEW_ADVERTISE",
                value,
                reason: "not a host; write host or host:port, IPv6 in brackets".into(),
            })?,
        };
        if listen.ip().is_unspecified() && advertise_host.is_none() {
            return Err(SettingsError {
                variable: "SINEW_LISTEN",
                value: listen.to_string(),
                reason: "others cannot reach a wildcard address; set SINEW_ADVERTISE to the host to be reached by".into(),
            });
        }
        let word = |variable| {
            let value: Option<String> = get(variable);
            let odd = |v: &&String| v.len() > 128 || !v.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            match value.iter().find(odd) {
                Some(value) => {
                    let reason = "use up to 128 letters, digits, '-', '_' and '.'".to_owned();
                    Err(SettingsError { variable, value: value.clone(), reason })
                }
                None => Ok(value),
            }
        };
        let (instance, zone) = (word("SINEW_INSTANCE")?, word("SINEW_ZONE")?);
        let priority = get("SINEW_PRIORITY").map(|value| {
            let refuse = |value, reason| SettingsError { variable: "SINEW_PRIORITY", value, reason };
            value.parse().map_err(|_| refuse(value, "write a number, 0 to 255".to_owned()))
        });
        let faults = get("SINEW_FAULTS").map(|value| {
            let refuse = |value, reason| SettingsError { variable: "SINEW_FAULTS", value, reason };
            FaultInjection::parse(&value).map_err(|error| refuse(value, error.to_string()))
        });
        let adaptive_concurrency = match get("SINEW_ADAPTIVE_CONCURRENCY") {
            None => defaults.adaptive_concurrency,
            Some(value) if value == "on" => true,
            Some(value) if value == "off" => false,
            Some(value) => {
                let reason = "write on or off".to_owned();
                return Err(SettingsError { variable: "SINEW_ADAPTIVE_CONCURRENCY", value, reason });
            }
        };
        Ok(Self {
            adaptive_concurrency,
            priority: priority.transpose()?.unwrap_or(defaults.priority),
            faults: faults.transpose()?,
            listen,
            advertise_host,
            advertise_port,
            admin,
            instance,
            zone,
            data_dir: get("SINEW_DATA_DIR").map_or(defaults.data_dir, PathBuf::from),
            jwks: get("SINEW_JWKS").map(PathBuf::from),
        })
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn advertise(value: &str) -> Option<(Option<String>, Option<u16>)> {
    if let Ok(ip) = value.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        return Some((Some(ip.to_string()), None));
    }
    let (host, port) = match value.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok().filter(|p| *p != 0)?)),
        None => (value, None),
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let ok = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b));
    ok.then(|| (Some(host.to_owned()), port))
}

#[cfg(test)]
mod tests {
    use super::{Settings, SettingsError};

    fn read(vars: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn defaults_are_loopback_and_free_ports() {
        let settings = read(&[]).expect("defaults");
        assert!(settings.listen.ip().is_loopback() && settings.admin.ip().is_loopback());
        assert_eq!((settings.listen.port(), settings.advertise_host), (0, None));
        assert_eq!(read(&[("SINEW_LISTEN", "")]), read(&[]));
    }

    #[test]
    fn advertised_addresses() {
        let read = |value| read(&[("SINEW_ADVERTISE", value)]).map(|s| (s.advertise_host.unwrap_or_default(), s.advertise_port));
        assert_eq!(read("10.0.0.7"), Ok(("10.0.0.7".into(), None)));
        assert_eq!(read("order:50051"), Ok(("order".into(), Some(50051))));
        assert_eq!(read("[::1]:50051"), Ok(("::1".into(), Some(50051))));
        assert_eq!(read("::1"), Ok(("::1".into(), None)));
        for bad in [":1", "a:b", "a:0", "a b", "http://a"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (name, value) in [
            ("SINEW_LISTEN", "here"),
            ("SINEW_ADAPTIVE_CONCURRENCY", "yes"),
            ("SINEW_ADMIN", "1:2:3"),
            ("SINEW_INSTANCE", "a/b"),
            ("SINEW_ZONE", "eu west"),
            ("SINEW_PRIORITY", "first"),
            ("SINEW_FAULTS", r#"{"faults":[{"name":[{}],"abort":{"code":"GONE"}}]}"#),
            ("SINEW_LISTEN", "0.0.0.0:1"),
        ] {
            let error = read(&[(name, value)]).expect_err(value);
            assert_eq!((error.variable, error.value.as_str()), (name, value));
        }
        assert!(read(&[("SINEW_ADAPTIVE_CONCURRENCY", "on")]).is_ok_and(|settings| settings.adaptive_concurrency));
        assert!(read(&[("SINEW_LISTEN", "0.0.0.0:1"), ("SINEW_ADVERTISE", "order")]).is_ok());
    }
}
