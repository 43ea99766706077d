//! What may be set, and from where.

use sinew_events::SubscriptionConfig;
use sinew_saga::Timing;
use std::path::{Path, PathBuf};

/// Where data lies when nothing else is said.
const DEFAULT_FOLDER: &str = ".sinew";

/// The service's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `DATABASE_URL`: `postgres://…` or `sqlite://…`. Default: `order.db` in `SINEW_DATA_DIR`, or in `.sinew`.
    pub database_url: String,
    /// How long steps may take. Defaults: see [`Timing`].
    pub timing: Timing,
    /// Leases, scans and how much at once. Defaults: see [`sinew_saga::Config`].
    pub coordinator: sinew_saga::Config,
    /// Leases and waits of the subscriptions to users and products. Defaults: see [`SubscriptionConfig`].
    pub subscriptions: SubscriptionConfig,
}

impl Config {
    /// From the environment.
    pub fn from_env() -> Self {
        let folder = std::env::var_os("SINEW_DATA_DIR").map_or_else(|| PathBuf::from(DEFAULT_FOLDER), PathBuf::from);
        match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Self::with_url(url),
            _ => Self::in_folder(&folder),
        }
    }

    /// With a SQLite file in this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self::with_url(format!("sqlite://{}", folder.join("order.db").display()))
    }

    /// With this database.
    pub fn with_url(database_url: impl Into<String>) -> Self {
        let (timing, coordinator) = (Timing::default(), sinew_saga::Config::default());
        Self { database_url: database_url.into(), timing, coordinator, subscriptions: SubscriptionConfig::default() }
    }
}
