//! What can go wrong, and the exit status it ends in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a verb failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The command line is wrong. Exit status 2.
    Usage(String),
    /// A file operation failed.
    File {
        /// What was tried: "read", "create".
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The gate could not listen.
    Listen {
        /// Its port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The gate's listener failed over and over.
    Accept(io::Error),
    /// The server program could not be started.
    Exec {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// `auto` was asked for and no server program is in `PATH`.
    NoServer,
    /// The password file is empty.
    EmptyPassword(PathBuf),
    /// A probe failed: the text says what was seen.
    Probe(String),
}

impl Error {
    /// The exit status of the program: 2 for a wrong command line, else 1.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::File { .. }
            | Self::Listen { .. }
            | Self::Accept(_)
            | Self::Exec { .. }
            | Self::NoServer
            | Self::EmptyPassword(_)
            | Self::Probe(_) => 1,
        }
    }

    /// The error and its cause, in one line.
    #[must_use]
    pub fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// For `map_err`: what was tried, on which file.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) => write!(f, "{why}; see --help"),
            Self::File { what, path, .. } => write!(f, "cannot {what} {}", path.display()),
            Self::Listen { port, .. } => write!(
                f,
                "the start gate cannot listen on port {port}; give another with --gate-port"
            ),
            Self::Accept(_) => f.write_str("the start gate can take no more connections"),
            Self::Exec { program, .. } => write!(f, "cannot start the server {program}"),
            Self::NoServer => f.write_str(
                "neither valkey-server nor redis-server is in PATH; name the program instead of `auto`",
            ),
            Self::EmptyPassword(path) => write!(
                f,
                "the password file {} is empty; write a password into it",
                path.display()
            ),
            Self::Probe(seen) => f.write_str(seen),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. }
            | Self::Listen { source, .. }
            | Self::Exec { source, .. }
            | Self::Accept(source) => Some(source),
            Self::Usage(_) | Self::NoServer | Self::EmptyPassword(_) | Self::Probe(_) => None,
        }
    }
}
