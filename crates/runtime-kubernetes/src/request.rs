//! One request to the API server: never without an end, and never without saying what it was for.

use std::time::Duration;

use tokio::time::timeout;

/// How long one request may take. A healthy API server needs milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// A request was not granted.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The API server refused it, or could not be asked.
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
    /// The HTTP status of the refusal, if it was one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Failed { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::TimedOut { .. } => None,
        }
    }
}

/// Waits for a request, but not for ever. `what` completes "cannot …".
pub(crate) async fn ask<T>(
    what: impl Fn() -> String,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RequestError> {
    match timeout(LIMIT, request).await {
        Ok(answer) => answer.map_err(|source| RequestError::Failed {
            what: what(),
            source: Box::new(source),
        }),
        Err(_) => Err(RequestError::TimedOut { what: what() }),
    }
}
