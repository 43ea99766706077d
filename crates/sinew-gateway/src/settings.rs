//! What the gateway is told from outside.

use crate::{
    client_addr::Cidr,
    rate::{Classes, LoadKey, Quota, RateError, RateUrl},
};
use http::HeaderValue;
use std::{env, fmt::Display, net::SocketAddr, str::FromStr};

/// A setting of every service that a gateway cannot honour. A limit that follows latency would let one slow service take the
/// calls of all others away.
const ADAPTIVE: &str = "SINEW_ADAPTIVE_CONCURRENCY";

/// Every setting of the gateway that is not every service's; each from one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// `SINEW_GATEWAY_LISTEN`: address of the HTTP port; `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// `SINEW_TRUSTED_PROXIES`: networks whose `X-Forwarded-For` is believed, separated by commas; none.
    pub proxies: Vec<Cidr>,
    /// `SINEW_CORS_ORIGINS`: origins whose scripts may call, separated by commas; none.
    pub origins: Vec<HeaderValue>,
    /// `SINEW_RATE_LOAD_KEY`: what load generators show to be in a class of their own; none.
    pub load_key: Option<LoadKey>,
    /// `SINEW_RATE_ANONYMOUS`, `SINEW_RATE_USER`, `SINEW_RATE_ADMIN`, `SINEW_RATE_LOAD`: calls a second and at once, `50/100`, or `off`.
    pub classes: Classes,
    /// `RATE_LIMIT_URL`: the Redis where quotas are kept for all gateways together; none.
    pub rate_url: Option<RateUrl>,
    /// `SINEW_GATEWAY_MAX_BODY`: largest body of a REST request in bytes; 1 MiB.
    pub body_bytes: usize,
}

/// A variable whose value cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value:?}: {reason}")]
pub struct GatewaySettingsError {
    /// Which variable.
    pub variable: &'static str,
    /// What it was.
    pub value: String,
    /// What would be right.
    pub reason: String,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            proxies: Vec::new(),
            origins: Vec::new(),
            load_key: None,
            classes: Classes::default(),
            rate_url: None,
            body_bytes: crate::Limits::default().body_bytes,
        }
    }
}

impl GatewaySettings {
    /// Reads the environment; an empty variable is as good as none.
    ///
    /// # Errors
    ///
    /// The first variable that cannot be honoured.
    pub fn from_env() -> Result<Self, GatewaySettingsError> {
        Self::from_vars(|name| env::var(name).ok())
    }

    fn from_vars(get: impl Fn(&'static str) -> Option<String>) -> Result<Self, GatewaySettingsError> {
        let get = |name| get(name).filter(|v: &String| !v.trim().is_empty());
        let defaults = Self::default();
        // A URL may hold a password: only its scheme is shown.
        let scheme = |url: &str| url.split(':').next().unwrap_or_default().to_owned();
        let rate_url =
            get("RATE_LIMIT_URL").map(|url| url.parse().map_err(|why: RateError| refuse("RATE_LIMIT_URL", &scheme(&url), &why.0)));
        if let Some(on) = get(ADAPTIVE).filter(|value| value.trim() != "off") {
            let reason = "the gateway's calls are as slow as the services behind it: set it for those";
            return Err(refuse(ADAPTIVE, &on, reason));
        }
        let quota = |variable, default| match get(variable) {
            None => Ok(default),
            Some(value) if value.trim() == "off" => Ok(None),
            Some(value) => one::<Quota>(variable, &value, &value).map(Some),
        };
        let listen = get("SINEW_GATEWAY_LISTEN").map(|v| {
            v.trim().parse().map_err(|_| refuse("SINEW_GATEWAY_LISTEN", &v, "not an address; write ip:port as in 0.0.0.0:8080"))
        });
        let body = get("SINEW_GATEWAY_MAX_BODY").map(|v| {
            let bytes = v.trim().parse().ok().filter(|b| *b > 0);
            bytes.ok_or_else(|| refuse("SINEW_GATEWAY_MAX_BODY", &v, "not a number of bytes above 0"))
        });
        let origins = split(get("SINEW_CORS_ORIGINS")).map(|(origin, all)| {
            let web = origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', '*', ' '])
            });
            let value = web.then(|| HeaderValue::try_from(&origin).ok()).flatten();
            value.ok_or_else(|| refuse("SINEW_CORS_ORIGINS", &all, "not origins; write https://shop.example, without path or *"))
        });
        Ok(Self {
            listen: listen.transpose()?.unwrap_or(defaults.listen),
            proxies: split(get("SINEW_TRUSTED_PROXIES"))
                .map(|(net, all)| one("SINEW_TRUSTED_PROXIES", &net, &all))
                .collect::<Result<_, _>>()?,
            origins: origins.collect::<Result<_, _>>()?,
            load_key: get("SINEW_RATE_LOAD_KEY")
                // A secret is not shown, not even a bad one.
                .map(|key| key.trim().parse().map_err(|why| refuse("SINEW_RATE_LOAD_KEY", "…", why)))
                .transpose()?,
            classes: Classes {
                anonymous: quota("SINEW_RATE_ANONYMOUS", defaults.classes.anonymous)?,
                user: quota("SINEW_RATE_USER", defaults.classes.user)?,
                admin: quota("SINEW_RATE_ADMIN", defaults.classes.admin)?,
                load: quota("SINEW_RATE_LOAD", defaults.classes.load)?,
            },
            rate_url: rate_url.transpose()?,
            body_bytes: body.transpose()?.unwrap_or(defaults.body_bytes),
        })
    }
}

fn refuse(variable: &'static str, value: &str, reason: &str) -> GatewaySettingsError {
    GatewaySettingsError { variable, value: value.to_owned(), reason: reason.to_owned() }
}

fn one<T: FromStr<Err: Display>>(variable: &'static str, text: &str, all: &str) -> Result<T, GatewaySettingsError> {
    text.trim().parse().map_err(|e: T::Err| refuse(variable, all, &e.to_string()))
}

/// Each part of a list, with the whole for messages.
fn split(value: Option<String>) -> impl Iterator<Item = (String, String)> {
    let all = value.unwrap_or_default();
    let parts: Vec<_> = all.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect();
    parts.into_iter().map(move |part| (part, all.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &'static str, value: &'static str) -> Result<GatewaySettings, GatewaySettingsError> {
        GatewaySettings::from_vars(|asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn nothing_set_gives_the_defaults() {
        assert_eq!(read("OTHER", "x"), Ok(GatewaySettings::default()));
        assert_eq!(read("SINEW_RATE_USER", " "), Ok(GatewaySettings::default()));
        assert_eq!(read("SINEW_ADAPTIVE_CONCURRENCY", "off"), Ok(GatewaySettings::default()));
    }

    #[test]
    fn what_is_set_is_honoured() {
        let classes = read("SINEW_RATE_USER", "7/9").expect("valid").classes;
        assert_eq!((classes.user, classes.admin), (Quota::new(7, 9), Classes::default().admin));
        assert_eq!(read("SINEW_RATE_ANONYMOUS", "off").expect("valid").classes.anonymous, None);
        assert_eq!(read("SINEW_TRUSTED_PROXIES", "10.0.0.0/8, ::1").expect("valid").proxies.len(), 2);
        assert_eq!(read("SINEW_CORS_ORIGINS", "https://a.example").expect("valid").origins.len(), 1);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name_and_secrets_are_not_shown() {
        for (name, bad) in [
            ("SINEW_GATEWAY_LISTEN", "8080"),
            ("SINEW_TRUSTED_PROXIES", "10.0.0.0/8,proxy"),
            ("SINEW_CORS_ORIGINS", "*"),
            ("SINEW_CORS_ORIGINS", "https://a.example/path"),
            ("SINEW_RATE_ADMIN", "fast"),
            ("SINEW_GATEWAY_MAX_BODY", "0"),
            ("SINEW_ADAPTIVE_CONCURRENCY", "on"),
        ] {
            let error = read(name, bad).expect_err(bad);
            assert_eq!((error.variable, error.value.as_str()), (name, bad));
        }
        assert!(!read("SINEW_RATE_LOAD_KEY", "secret").expect_err("too short").to_string().contains("secret"));
        let error = read("RATE_LIMIT_URL", "http://:secret@host").expect_err("not Redis").to_string();
        assert!(error.contains("RATE_LIMIT_URL=\"http\"") && error.contains("redis://") && !error.contains("secret"), "{error}");
        assert!(!format!("{:?}", read("RATE_LIMIT_URL", "redis://:secret@host")).contains("secret"));
    }
}
