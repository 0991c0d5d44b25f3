//! What can go wrong while a test sets its scene.

use std::path::PathBuf;
use std::time::Duration;

/// The result of a test: any error fails it and is printed.
pub type TestResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A scene that could not be set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable engine of that name was found.
    #[error("no engine {wanted} on this machine (found: {found}); run `make engines`")]
    NoEngine {
        /// The name the test asked for, such as `valkey-9.1`.
        wanted: String,
        /// What was found instead, and what was found but does not run.
        found: String,
    },
    /// Every port of the range is taken.
    #[error("no free pair of ports (port and port + 10000) between {low} and {high}")]
    NoPort {
        /// First port tried.
        low: u16,
        /// Last port tried.
        high: u16,
    },
    /// The network of this machine could not be set up so.
    #[error("{asked}: {why}")]
    Network {
        /// The command.
        asked: String,
        /// What it answered.
        why: String,
    },
    /// The server ended before it answered.
    #[error("server on port {port} ended at once ({status}); the end of its log:\n{log}")]
    Died {
        /// Its port.
        port: u16,
        /// Its exit status.
        status: String,
        /// The last lines it logged.
        log: String,
    },
    /// Something did not become true in time.
    #[error("{what}: not so after {} ms; last seen: {last}", waited.as_millis())]
    TooLate {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The last thing seen while waiting.
        last: String,
    },
    /// The server must run (or must not) for this.
    #[error("server on port {port} {state}")]
    State {
        /// Its port.
        port: u16,
        /// "is not running" or "is still running".
        state: &'static str,
    },
    /// A file or process operation failed.
    #[error("{what} {}", path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A server answered a command with an error, or did not answer.
    #[error("{command} at {address}")]
    Redis {
        /// The command sent.
        command: String,
        /// To whom.
        address: String,
        /// The answer.
        source: redis::RedisError,
    },
    /// A certificate could not be made.
    #[error("make a test certificate")]
    Certificate(#[from] rcgen::Error),
}

impl Error {
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
