//! What may be set, and from where.

use std::path::{Path, PathBuf};

/// Where data lies when nothing else is said.
const DEFAULT_FOLDER: &str = ".sinew";

/// The service's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `DATABASE_URL`: `postgres://…` or `sqlite://…`. Default: `user.db` in `SINEW_DATA_DIR`, or in `.sinew`.
    pub database_url: String,
}

impl Config {
    /// From the environment.
    pub fn from_env() -> Self {
        let folder = std::env::var_os("SINEW_DATA_DIR").map_or_else(|| PathBuf::from(DEFAULT_FOLDER), PathBuf::from);
        match std::env::var("DATABASE_URL") {
            Ok(database_url) if !database_url.is_empty() => Self { database_url },
            _ => Self::in_folder(&folder),
        }
    }

    /// With a SQLite file in this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { database_url: format!("sqlite://{}", folder.join("user.db").display()) }
    }
}
