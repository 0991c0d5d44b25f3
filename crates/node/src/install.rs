//! Copies this program to where the server's container finds it.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Error;

/// Copies the running program to `dest`, executable for all. `dest` is replaced in one step: whoever runs the old
/// one keeps it.
///
/// # Errors
/// Where a file can't be read or written.
pub fn install(dest: &Path) -> Result<(), Error> {
    let own = env::current_exe().map_err(Error::file("find", Path::new("/proc/self/exe")))?;
    let mut new = dest.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    fs::copy(&own, new).map_err(Error::file("write", new))?;
    fs::set_permissions(new, Permissions::from_mode(0o755))
        .map_err(Error::file("set the mode of", new))?;
    fs::rename(new, dest).map_err(Error::file("replace", dest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_the_same_and_executable() {
        let dir = tempfile::tempdir().expect("a folder");
        let dest = dir.path().join("node");
        for _ in 0..2 {
            install(&dest).expect("installed, and replaced");
            let mode = fs::metadata(&dest).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
        }
        let own = fs::read(env::current_exe().expect("known")).expect("readable");
        assert!(own == fs::read(&dest).expect("readable"));
        let said = install(&dir.path().join("none/node")).expect_err("no folder");
        assert!(said.to_string().contains("none/node"), "{said}");
    }
}
