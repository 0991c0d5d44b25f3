//! Passwords: given, kept, or made; one file each, readable by the owner only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use shardwright_manifest::{Cluster, Secret, User};

use crate::files;

/// A password could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A file can't be read or written.
    #[error("cannot use the password file {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no password.
    #[error("the password file {} is empty; write the password into it, or remove it to have one made", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("no random bytes for a password: {why}")]
    Random {
        /// What the system says.
        why: String,
    },
}

/// The passwords of all users that need one, and what there is to warn of.
pub(crate) fn gather(
    cluster: &Cluster,
    kept: &Path,
    given: Option<&Path>,
) -> Result<(BTreeMap<String, Secret>, Vec<String>), SecretError> {
    let mut passwords = BTreeMap::new();
    let mut warnings = Vec::new();
    for user in cluster.users() {
        let ours = kept.join(user.name());
        let password = match given
            .map(|dir| from_dir(dir, user, &mut warnings))
            .transpose()?
            .flatten()
        {
            Some(password) => Some(password),
            None => read(&ours, &mut warnings)?,
        };
        let password = match password {
            Some(password) => password,
            None if user.needs_password() => make()?,
            None => continue,
        };
        keep(&ours, &password)?;
        passwords.insert(user.name().to_owned(), password);
    }
    Ok((passwords, warnings))
}

/// The users whose given password is another than the kept one.
pub(crate) fn changed(
    cluster: &Cluster,
    kept: &Path,
    given: &Path,
) -> Result<Vec<String>, SecretError> {
    let mut users = Vec::new();
    for user in cluster.users() {
        let before = read(&kept.join(user.name()), &mut Vec::new())?;
        let now = from_dir(given, user, &mut Vec::new())?;
        if let (Some(before), Some(now)) = (before, now)
            && before.expose() != now.expose()
        {
            users.push(user.name().to_owned());
        }
    }
    Ok(users)
}

/// The kept password of one user.
pub(crate) fn kept(dir: &Path, user: &str) -> Result<Option<Secret>, SecretError> {
    read(&dir.join(user), &mut Vec::new())
}

/// From the directory of `--secrets`: `SECRET/KEY` as the manifest names it, else a file called as the user.
fn from_dir(
    dir: &Path,
    user: &User,
    warnings: &mut Vec<String>,
) -> Result<Option<Secret>, SecretError> {
    if let Some(secret) = user.password_secret()
        && let Some(password) = read(&dir.join(&secret.name).join(&secret.key), warnings)?
    {
        return Ok(Some(password));
    }
    read(&dir.join(user.name()), warnings)
}

fn read(path: &Path, warnings: &mut Vec<String>) -> Result<Option<Secret>, SecretError> {
    let file = |source| SecretError::File {
        path: path.to_owned(),
        source,
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(file(e)),
    };
    let mode = fs::metadata(path).map_err(file)?.permissions().mode();
    if mode & 0o044 != 0 {
        warnings.push(format!(
            "the password file {0} can be read by others; run: chmod 600 {0}",
            path.display()
        ));
    }
    // A file made with an editor or echo ends in a line break that is no part of the password.
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(SecretError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(Some(Secret::new(password)))
}

/// A new password.
pub(crate) fn make() -> Result<Secret, SecretError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| SecretError::Random { why: e.to_string() })?;
    Ok(Secret::from_random(&bytes))
}

fn keep(path: &Path, password: &Secret) -> Result<(), SecretError> {
    let same = fs::read_to_string(path).is_ok_and(|text| text == password.expose());
    if same {
        return Ok(());
    }
    files::write(path, password.expose(), files::PRIVATE).map_err(|source| SecretError::File {
        path: path.to_owned(),
        source,
    })
}
