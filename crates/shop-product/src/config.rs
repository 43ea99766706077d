//! What may be set, and from where.

use std::path::{Path, PathBuf};

/// Where data lies when nothing else is said.
const DEFAULT_FOLDER: &str = ".sinew";

/// The service's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `PRODUCT_STORE_URL`: `redis://…`, `postgres://…` or `sqlite://…`. Default: `product.db` in `SINEW_DATA_DIR`, or in
    /// `.sinew`.
    pub store_url: String,
}

impl Config {
    /// From the environment.
    pub fn from_env() -> Self {
        let folder = std::env::var_os("SINEW_DATA_DIR").map_or_else(|| PathBuf::from(DEFAULT_FOLDER), PathBuf::from);
        match std::env::var("PRODUCT_STORE_URL") {
            Ok(store_url) if !store_url.is_empty() => Self { store_url },
            _ => Self::in_folder(&folder),
        }
    }

    /// With a SQLite file in this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { store_url: format!("sqlite://{}", folder.join("product.db").display()) }
    }
}
