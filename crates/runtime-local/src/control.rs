//! The socket at which whoever holds the lock of a local cluster takes requests of other runs.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

use crate::files;
use crate::local::{Local, LocalError, file};
use crate::state::{StateError, StateLock};

/// Its name in the state directory.
pub(crate) const SOCKET: &str = "control.sock";

/// The socket of a state directory, while this value lives. Only who holds the lock has one.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    /// In this directory, not in another that has its name by now, as after `down --purge`.
    path: ShortPath,
    /// Held until the socket is removed: it is never the next holder's that goes.
    _lock: Arc<StateLock>,
}

impl ControlSocket {
    fn bind(dir: &Path, lock: Arc<StateLock>) -> Result<Self, LocalError> {
        let whole = dir.join(SOCKET);
        match fs::remove_file(&whole) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(file(&whole)(e)),
        }
        let path = ShortPath::of(dir).map_err(file(&whole))?;
        let listener = UnixListener::bind(&path.path).map_err(file(&whole))?;
        let private = Permissions::from_mode(files::PRIVATE);
        fs::set_permissions(&path.path, private).map_err(file(&whole))?;
        Ok(Self {
            listener,
            path,
            _lock: lock,
        })
    }

    /// The next connection of another run of the same user, or of root's. One of another user, who connected before the
    /// socket was made private, is closed.
    ///
    /// # Errors
    /// When the system has no connection to give, for lack of file descriptors for example.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if may_ask(uid, geteuid().as_raw()) {
                return Ok(stream);
            }
            tracing::warn!(uid, "a connection of another user is closed");
        }
    }
}

/// Whether this user may ask a run of that one for something.
fn may_ask(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // One that stays behind refuses connections, and the next holder of the lock replaces it.
        drop(fs::remove_file(&self.path.path));
    }
}

impl Local {
    /// Takes requests from now on, at a socket that only its owner may use (mode 0600). One that a killed run left behind
    /// is replaced.
    ///
    /// # Errors
    /// When the cluster was opened to be looked at only, and when the socket can't be made.
    pub fn listen(&self) -> Result<ControlSocket, LocalError> {
        let Some(lock) = self.lock.clone() else {
            let source =
                io::Error::other("the cluster was opened to be looked at, not to be changed");
            let path = self.dir().join(SOCKET);
            return Err(LocalError::File { path, source });
        };
        ControlSocket::bind(self.dir(), lock)
    }
}

/// A connection to the run that holds the lock of this state directory; `None` where nobody takes requests there.
///
/// # Errors
/// When the socket can't be used for another reason, as when it is another user's.
pub async fn connect_to_holder(dir: &Path) -> Result<Option<UnixStream>, StateError> {
    let failed = |source| StateError::File {
        path: dir.join(SOCKET),
        source,
    };
    let short = match ShortPath::of(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        short => short.map_err(failed)?,
    };
    match UnixStream::connect(&short.path).await {
        Ok(stream) => Ok(Some(stream)),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(failed(e)),
    }
}

/// A path of the socket that fits into the 108 bytes that the system has for it (unix(7)), however deep the directory is.
#[derive(Debug)]
struct ShortPath {
    path: PathBuf,
    /// The path leads through this descriptor.
    _dir: File,
}

impl ShortPath {
    fn of(dir: &Path) -> io::Result<Self> {
        let opened = File::open(dir)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd());
        Ok(Self {
            path: path.into(),
            _dir: opened,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn deep(root: &Path) -> io::Result<PathBuf> {
        let dir = root.join("a".repeat(120)).join("cluster");
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    #[tokio::test]
    async fn nobody_listens_where_nothing_is_and_where_a_killed_run_left_its_socket() -> TestResult
    {
        let root = tempfile::tempdir()?;
        let dir = deep(root.path())?;
        assert!(connect_to_holder(&dir.join("none")).await?.is_none());
        assert!(connect_to_holder(&dir).await?.is_none());
        let short = ShortPath::of(&dir)?;
        drop(UnixListener::bind(&short.path)?);
        assert!(dir.join(SOCKET).exists(), "it is left behind");
        assert!(connect_to_holder(&dir).await?.is_none());
        let listener = {
            fs::remove_file(dir.join(SOCKET))?;
            UnixListener::bind(&short.path)?
        };
        let (asked, taken) = tokio::join!(connect_to_holder(&dir), listener.accept());
        assert!(asked?.is_some());
        taken?;
        Ok(())
    }

    #[test]
    fn only_the_same_user_and_root_may_ask() {
        assert!(may_ask(1000, 1000));
        assert!(may_ask(0, 1000));
        assert!(!may_ask(1001, 1000));
        assert!(!may_ask(1001, 0));
    }

    #[tokio::test]
    async fn none_but_its_own_file_goes_with_a_socket() -> TestResult {
        let root = tempfile::tempdir()?;
        let dir = root.path().join("c");
        let first = ControlSocket::bind(&dir, Arc::new(StateLock::take(&dir)?))?;
        // The cluster is removed, and another is made in its place.
        fs::remove_dir_all(&dir)?;
        let second = ControlSocket::bind(&dir, Arc::new(StateLock::take(&dir)?))?;
        drop(first);
        assert!(connect_to_holder(&dir).await?.is_some());
        drop(second);
        assert!(!dir.join(SOCKET).exists());
        Ok(())
    }
}
