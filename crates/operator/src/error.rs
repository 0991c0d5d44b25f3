//! What can go wrong in a pass: its kind as a metric's label and a condition's reason.

use std::error::Error;

use shardwright_runtime::RuntimeError;
use shardwright_runtime_kubernetes::outside::AskError;
use shardwright_runtime_kubernetes::{ApplyError, RequestError, namespace_ends};

use crate::reasons;

/// A pass could not be made, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The objects could not be brought to what is wanted.
    #[error("the cluster's objects could not be applied")]
    Apply(#[from] ApplyError),
    /// The runtime could not do its part.
    #[error("the pass was broken off")]
    Runtime(#[from] RuntimeError),
    /// The API server refused.
    #[error("the API server refused the status")]
    Api(#[source] Box<kube::Error>),
    /// The API server did not answer in time.
    #[error("the API server did not answer in time about the status")]
    ApiSilent,
    /// What a person asked for was answered, and stays on the object.
    #[error("the request that was answered was not taken off the object")]
    Wish(#[from] AskError),
    /// The status could not be written down.
    #[error("the status can't be written as JSON")]
    Status(#[source] serde_json::Error),
    /// There is no randomness for the name of a pen or a pause.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl PassError {
    /// Whether it failed because the cluster's namespace is being deleted: then the cluster is leaving with it.
    pub fn namespace_ends(&self) -> bool {
        match self {
            Self::Apply(error) => error.namespace_ends(),
            Self::Runtime(error) => is_of_ending_namespace(error),
            Self::Api(error) => {
                matches!(&**error, kube::Error::Api(status) if namespace_ends(status))
            }
            Self::Wish(AskError::Request(error)) => error.namespace_ends(),
            Self::Wish(_) | Self::ApiSilent | Self::Status(_) | Self::Random(_) => false,
        }
    }

    /// One word in CamelCase.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Apply(ApplyError::UnknownSettings(_)) => reasons::SETTING_UNKNOWN.word,
            Self::Apply(_) => "ApplyFailed",
            Self::Runtime(_) => "PassFailed",
            Self::Api(_) => "ApiRefused",
            Self::ApiSilent => "ApiSilent",
            Self::Wish(_) => "RequestNotTakenOff",
            Self::Status(_) => "StatusUnwritable",
            Self::Random(_) => "NoRandomness",
        }
    }
}

/// Whether a request that an error came of was refused because its namespace is being deleted.
fn is_of_ending_namespace(error: &RuntimeError) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        let request = cause.downcast_ref::<RequestError>();
        if request.is_some_and(RequestError::namespace_ends) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(namespace_ends: bool) -> RequestError {
        RequestError::Refused {
            what: "apply the Secret redis-auth".to_owned(),
            code: 403,
            said: "forbidden".to_owned(),
            namespace_ends,
        }
    }

    #[test]
    fn that_a_namespace_ends_is_seen_through_every_error_that_it_comes_in() {
        for ends in [true, false] {
            let applied = PassError::from(ApplyError::from(refused(ends)));
            let asked = PassError::from(AskError::from(refused(ends)));
            let recorded = RuntimeError::because("not recorded", refused(ends));
            let again = PassError::from(RuntimeError::because("the pass", recorded));
            for error in [applied, asked, again] {
                assert_eq!(error.namespace_ends(), ends, "{error:?}");
            }
        }
        assert!(!PassError::ApiSilent.namespace_ends());
    }
}
