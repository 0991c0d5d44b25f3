//! One request to the API server: never without an end, and never without saying what it was for.

use std::time::Duration;

use kube::core::Status;
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
        /// It refused because the namespace is being deleted: nothing can be made there any more.
        namespace_ends: bool,
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
                namespace_ends: namespace_ends(&status),
            },
            source => Self::Failed {
                what,
                source: Box::new(source),
            },
        }
    }

    /// Whether it was refused because the namespace is being deleted.
    pub fn namespace_ends(&self) -> bool {
        match self {
            Self::Refused { namespace_ends, .. } => *namespace_ends,
            Self::Failed { .. } | Self::TimedOut { .. } => false,
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

/// Whether the API server refused something because its namespace is being deleted. It says so by a cause, as the status
/// itself (403) is that of a right that lacks.
pub fn namespace_ends(refusal: &Status) -> bool {
    const CAUSE: &str = "NamespaceTerminating";
    let mut causes = refusal.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == CAUSE)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As an API server of Kubernetes 1.35 answers.
    fn refusal(causes: &str) -> kube::Error {
        let status = format!(
            r#"{{
                "kind": "Status", "apiVersion": "v1", "metadata": {{}}, "status": "Failure",
                "message": "secrets \"redis-auth\" is forbidden: why", "reason": "Forbidden",
                "details": {{"name": "redis-auth", "kind": "secrets", "causes": [{causes}]}}, "code": 403
            }}"#
        );
        let status: Status = serde_json::from_str(&status).expect("a status");
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn a_namespace_that_is_being_deleted_is_told_from_a_right_that_lacks() {
        let cause = r#"{"reason": "NamespaceTerminating", "message": "namespace a is being terminated", "field": "metadata.namespace"}"#;
        let what = || "apply the Secret redis-auth".to_owned();
        let ends = RequestError::of(what(), refusal(cause));
        assert!(ends.namespace_ends());
        assert_eq!(ends.code(), Some(403));
        assert!(!RequestError::of(what(), refusal("")).namespace_ends());
    }
}
