//! One request to the API server: never without an end, and never without saying what it was for.

use std::time::Duration;

use tokio::time::timeout;

/// How long one request may take. A healthy API server needs milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// A request was not granted.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The API server refused it; its own words say why, and which right is missing if one is.
    #[error("cannot {what}: the API server refused: {said}")]
    Refused {
        /// What it was for.
        what: String,
        /// The HTTP status.
        code: u16,
        /// What it said.
        said: String,
    },
    /// The API server could not be asked, or was not understood.
    #[error("cannot {what}")]
    Failed {
        /// What it was for.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// No answer came in time.
    #[error("cannot {what}: the API server did not answer within {} s", LIMIT.as_secs())]
    TimedOut {
        /// What it was for.
        what: String,
    },
}

impl RequestError {
    /// The error of a request that was for `what`.
    pub(crate) fn of(what: String, source: kube::Error) -> Self {
        match source {
            // Without the rest of its answer, which a person can do nothing with.
            kube::Error::Api(status) => Self::Refused {
                what,
                code: status.code,
                said: status.message.clone(),
            },
            source => Self::Failed {
                what,
                source: Box::new(source),
            },
        }
    }

    /// The HTTP status of the refusal, if it was one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Failed { .. } | Self::TimedOut { .. } => None,
        }
    }
}

/// Waits for a request, but not for ever. `what` completes "cannot …".
pub(crate) async fn ask<T>(
    what: impl Fn() -> String,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RequestError> {
    match timeout(LIMIT, request).await {
        Ok(answer) => answer.map_err(|source| RequestError::of(what(), source)),
        Err(_) => Err(RequestError::TimedOut { what: what() }),
    }
}
