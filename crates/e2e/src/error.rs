//! Why a case failed.

use std::time::Duration;

/// The result of whatever a case does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a case failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Kubernetes API refused or did not answer.
    #[error("{what}")]
    Api {
        /// What was asked of it.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// No Kubernetes can be reached.
    #[error("{0}")]
    NoKubernetes(String),
    /// Something did not become true in time.
    #[error("{what}: not so after {:.1} s; last seen: {last}", waited.as_secs_f64())]
    TooLate {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The last thing seen while waiting.
        last: String,
    },
    /// Something is not as it must be.
    #[error("{0}")]
    Wrong(String),
    /// A text could not be read.
    #[error("{what} cannot be read: {why}")]
    Text {
        /// What text.
        what: String,
        /// Why not.
        why: String,
    },
    /// A server could not be asked.
    #[error("{command} at {address}")]
    Redis {
        /// The command sent.
        command: String,
        /// To whom.
        address: String,
        /// The answer.
        source: redis::RedisError,
    },
    /// The load generator failed.
    #[error("the load")]
    Load(#[from] shardwright_testkit::Error),
    /// A file or a process of this machine.
    #[error("{what}")]
    Io {
        /// What was done, to what.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A task ended badly.
    #[error("a task of the case")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// An answer of the Kubernetes API, with what was asked.
    pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api {
            what,
            source: Box::new(source),
        }
    }

    /// A failure of this machine, with what was done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Something that is not as it must be.
    pub fn wrong<T>(what: impl Into<String>) -> Result<T> {
        Err(Self::Wrong(what.into()))
    }

    /// The error and its causes, in one line.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

/// `Ok` where it is so, else [`Error::Wrong`] with the text.
pub fn ensure(so: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if so {
        Ok(())
    } else {
        Err(Error::Wrong(otherwise()))
    }
}
