//! The key of the load generators' rate-limit class.

use crate::exit::Exit;
use rand::{Rng, distr::Alphanumeric};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

const FILE: &str = "load-key";
const VARIABLE: &str = "SINEW_RATE_LOAD_KEY";
const LENGTH: usize = 40;

/// The key of a data directory, made at random where there is none.
pub(crate) fn open(data: &Path) -> Result<String, Exit> {
    let path = data.join(FILE);
    let cannot = |e: std::io::Error| Exit::unavailable(format!("{} cannot be used: {e}", path.display()));
    match fs::read_to_string(&path) {
        Ok(key) => return Ok(key.trim().to_owned()),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(cannot(e)),
    }
    let key: String = rand::rng().sample_iter(Alphanumeric).take(LENGTH).map(char::from).collect();
    let draft = path.with_extension("draft");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&draft).map_err(cannot)?;
    file.write_all(key.as_bytes()).and_then(|()| fs::rename(&draft, &path)).map_err(cannot)?;
    Ok(key)
}

/// The key, where one is known: from the environment, or of the data directory.
pub(super) fn known(data: &Path) -> Option<String> {
    let set = std::env::var(VARIABLE).ok().filter(|key| !key.is_empty());
    set.or_else(|| fs::read_to_string(data.join(FILE)).ok().map(|key| key.trim().to_owned()))
}

/// The header that shows it.
pub(super) fn headers(key: Option<&str>) -> Vec<(&'static str, &str)> {
    key.map(|key| ("x-sinew-load-key", key)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_is_its_owners() {
        let data = tempfile::tempdir().unwrap();
        let key = open(data.path()).unwrap();
        assert_eq!((key.len(), open(data.path()).unwrap()), (LENGTH, key));
        let mode = fs::metadata(data.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
