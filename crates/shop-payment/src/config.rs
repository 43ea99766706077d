//! What may be set, and from where.

use std::path::{Path, PathBuf};

/// Where data lies when nothing else is said.
const DEFAULT_FOLDER: &str = ".sinew";

/// The service's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `DATABASE_URL`: `postgres://…` or `sqlite://…`. Default: `payment.db` in `SINEW_DATA_DIR`, or in `.sinew`.
    pub database_url: String,
    /// `PAYMENT_PROVIDER_URL`: where the embedded provider keeps its ledger, in the same form. It stands for somebody
    /// else's system and is never the service's own database. Default: `payment-provider.db` in the same folder.
    pub provider_url: String,
}

impl Config {
    /// From the environment.
    pub fn from_env() -> Self {
        let folder = std::env::var_os("SINEW_DATA_DIR").map_or_else(|| PathBuf::from(DEFAULT_FOLDER), PathBuf::from);
        let default = Self::in_folder(&folder);
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            database_url: set("DATABASE_URL").unwrap_or(default.database_url),
            provider_url: set("PAYMENT_PROVIDER_URL").unwrap_or(default.provider_url),
        }
    }

    /// With SQLite files in this folder.
    pub fn in_folder(folder: &Path) -> Self {
        let file = |name| format!("sqlite://{}", folder.join(name).display());
        Self { database_url: file("payment.db"), provider_url: file("payment-provider.db") }
    }
}
