//! The data directory: made for its owner alone, and used by one supervisor at a time.

use crate::exit::Exit;
use std::{
    fs::{self, File, TryLockError},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A data directory that is ours as long as this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes and locks it.
    pub(crate) fn claim(path: &Path) -> Result<Self, Exit> {
        let cannot = |e: std::io::Error| {
            Exit::unavailable(format!("the data directory {} cannot be used: {e}; give another with --data-dir", path.display()))
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join("logs")).map_err(cannot)?;
        // Children get it too, and must find it whatever their own folder is.
        let path = path.canonicalize().map_err(cannot)?;
        let lock = path.join("up.lock");
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(&lock).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(cannot(e)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: it may be half-written or gone.
                file.read_to_string(&mut holder).ok();
                return Err(Exit::unavailable(format!(
                    "the data directory {} is used by another `sinew up` (process {}): stop it, or give another with --data-dir",
                    path.display(),
                    holder.trim(),
                )));
            }
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(cannot)?;
        Ok(Self { path, _lock: file })
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a child's output goes.
    pub(crate) fn log(&self, child: &str) -> PathBuf {
        self.path.join("logs").join(format!("{child}.log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_private_and_has_one_owner() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataDir::claim(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);

        let second = DataDir::claim(&path).unwrap_err();
        assert_eq!(second.code(), 69);
        assert!(second.to_string().contains(&format!("(process {})", std::process::id())), "{second}");

        drop(first);
        DataDir::claim(&path).unwrap();
    }

    #[test]
    fn a_path_that_is_no_folder_is_named_with_the_flag() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = DataDir::claim(&file.join("data")).unwrap_err().to_string();
        assert!(refused.contains("--data-dir") && refused.contains("file/data"), "{refused}");
    }
}
