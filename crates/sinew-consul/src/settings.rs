//! Where Consul is and how to speak to it, by the variables its own tools obey.

use std::path::PathBuf;

/// How to reach an agent.
#[derive(Clone)]
pub struct Settings {
    /// Base address with scheme: `http://127.0.0.1:8500`.
    pub address: String,
    /// ACL token, never logged.
    pub token: Option<String>,
    /// PEM of the authority that signed the agent's certificate.
    pub ca: Option<PathBuf>,
    /// PEM of our certificate and its key, where the agent demands one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the agent's certificate is verified; only ever switch it off to find a fault.
    pub verify: bool,
    /// Datacenter asked; the agent's own by default.
    pub datacenter: Option<String>,
    /// Enterprise namespace; an open-source agent refuses it, so it is sent only when set.
    pub namespace: Option<String>,
}

/// A variable that cannot be honoured.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct SettingsError {
    variable: &'static str,
    reason: String,
}

impl Default for Settings {
    /// The agent of this machine, without TLS or token.
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:8500".to_owned(),
            token: None,
            ca: None,
            identity: None,
            verify: true,
            datacenter: None,
            namespace: None,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("address", &self.address)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads `CONSUL_HTTP_ADDR`, `CONSUL_HTTP_TOKEN`, `CONSUL_HTTP_TOKEN_FILE`, `CONSUL_HTTP_SSL`,
    /// `CONSUL_HTTP_SSL_VERIFY`, `CONSUL_CACERT`, `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY`, `CONSUL_DATACENTER` and
    /// `CONSUL_NAMESPACE`; a bad value is refused by the name of its variable.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// The same from any source of variables; empty values count as unset, as they do for Consul.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| lookup(name).filter(|v| !v.is_empty());
        let ssl = flag("CONSUL_HTTP_SSL", get("CONSUL_HTTP_SSL"), false)?;
        let identity = match (get("CONSUL_CLIENT_CERT"), get("CONSUL_CLIENT_KEY")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            (Some(_), None) => return Err(bad("CONSUL_CLIENT_KEY", "must be set along with CONSUL_CLIENT_CERT")),
            (None, Some(_)) => return Err(bad("CONSUL_CLIENT_CERT", "must be set along with CONSUL_CLIENT_KEY")),
        };
        Ok(Self {
            address: address(&get("CONSUL_HTTP_ADDR").unwrap_or_else(|| "127.0.0.1:8500".to_owned()), ssl)?,
            token: token(get("CONSUL_HTTP_TOKEN"), get("CONSUL_HTTP_TOKEN_FILE"))?,
            ca: get("CONSUL_CACERT").map(Into::into),
            identity,
            verify: flag("CONSUL_HTTP_SSL_VERIFY", get("CONSUL_HTTP_SSL_VERIFY"), true)?,
            datacenter: get("CONSUL_DATACENTER"),
            namespace: get("CONSUL_NAMESPACE"),
        })
    }
}

fn bad(variable: &'static str, reason: impl Into<String>) -> SettingsError {
    SettingsError { variable, reason: reason.into() }
}

fn address(text: &str, ssl: bool) -> Result<String, SettingsError> {
    const NAME: &str = "CONSUL_HTTP_ADDR";
    if text.starts_with("unix:") {
        return Err(bad(NAME, "unix sockets are not supported: give host:port or a http(s) URL"));
    }
    let full = match text.split_once("://") {
        Some(("http" | "https", _)) => text.to_owned(),
        Some((scheme, _)) => return Err(bad(NAME, format!("the scheme {scheme:?} is neither http nor https"))),
        None => format!("{}://{text}", if ssl { "https" } else { "http" }),
    };
    let url = reqwest011::Url::parse(&full).map_err(|e| bad(NAME, format!("{text:?} is no address: {e}")))?;
    if url.host_str().is_none() || url.path() != "/" || url.query().is_some() {
        return Err(bad(NAME, format!("{text:?} must be host:port, without a path")));
    }
    Ok(full.trim_end_matches('/').to_owned())
}

fn token(value: Option<String>, file: Option<String>) -> Result<Option<String>, SettingsError> {
    let (name, token) = match (value, file) {
        (Some(token), _) => ("CONSUL_HTTP_TOKEN", token),
        (None, Some(path)) => {
            let name = "CONSUL_HTTP_TOKEN_FILE";
            (name, std::fs::read_to_string(&path).map_err(|e| bad(name, format!("cannot read {path}: {e}")))?)
        }
        (None, None) => return Ok(None),
    };
    // A header cannot carry anything else, and the layer below would panic on it.
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad(name, "a token is one line of printable ASCII without blanks"));
    }
    Ok(Some(token.to_owned()))
}

fn flag(name: &'static str, value: Option<String>, default: bool) -> Result<bool, SettingsError> {
    match value.as_deref() {
        None => Ok(default),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(bad(name, format!("{other:?} is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn of(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Settings::from_lookup(find).map_err(|e| e.to_string())
    }

    #[test]
    fn an_address_needs_no_scheme() {
        assert_eq!(of(&[]).unwrap().address, "http://127.0.0.1:8500");
        assert_eq!(of(&[("CONSUL_HTTP_ADDR", "c:1"), ("CONSUL_HTTP_SSL", "true")]).unwrap().address, "https://c:1");
        assert_eq!(of(&[("CONSUL_HTTP_ADDR", "https://c:1/")]).unwrap().address, "https://c:1");
    }

    #[test]
    fn bad_values_are_refused_by_the_name_of_their_variable() {
        for (name, value) in [
            ("CONSUL_HTTP_ADDR", "unix:///run/consul.sock"),
            ("CONSUL_HTTP_ADDR", "ftp://c"),
            ("CONSUL_HTTP_ADDR", "c:port"),
            ("CONSUL_HTTP_TOKEN", "a\nb"),
            ("CONSUL_HTTP_TOKEN_FILE", "/does/not/exist"),
            ("CONSUL_HTTP_SSL_VERIFY", "maybe"),
        ] {
            assert!(of(&[(name, value)]).unwrap_err().starts_with(name), "{name}={value:?}");
        }
        assert!(of(&[("CONSUL_CLIENT_CERT", "x.pem")]).is_err());
    }

    #[test]
    fn a_token_is_trimmed_and_never_shown() {
        let settings = of(&[("CONSUL_HTTP_TOKEN", "secret\n")]).unwrap();
        assert_eq!(settings.token.as_deref(), Some("secret"));
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
