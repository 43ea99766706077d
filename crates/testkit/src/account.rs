//! Whom a server runs as: PostgreSQL refuses to run as root.

use anyhow::Context;
use std::{os::unix::fs::chown, path::Path};

/// What precedes a command so that it runs as `user` when we are root; nothing when we are not.
pub(crate) fn run_as(user: &str) -> Vec<String> {
    if !is_root() {
        return Vec::new();
    }
    ["setpriv", "--reuid", user, "--regid", user, "--init-groups"].map(str::to_owned).to_vec()
}

/// Gives a folder to `user` when we are root.
pub(crate) fn give(folder: &Path, user: &str) -> anyhow::Result<()> {
    if !is_root() {
        return Ok(());
    }
    let accounts = std::fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    let (uid, gid) = ids(&accounts, user).with_context(|| format!("there is no user {user}: is its package installed?"))?;
    chown(folder, Some(uid), Some(gid)).with_context(|| format!("cannot give {} to {user}", folder.display()))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn ids(accounts: &str, user: &str) -> Option<(u32, u32)> {
    let line = accounts.lines().find(|l| l.split(':').next() == Some(user))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_come_from_the_line_of_that_user_alone() {
        let accounts = "root:x:0:0::/root:/bin/sh\npostgres2:x:1:1::/:/\npostgres:x:104:111::/var:/bin/bash\n";
        assert_eq!(super::ids(accounts, "postgres"), Some((104, 111)));
        assert_eq!(super::ids(accounts, "nobody"), None);
    }
}
