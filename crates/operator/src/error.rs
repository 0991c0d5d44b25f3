//! What can go wrong in a pass: its kind as a metric's label and a condition's reason.

use shardwright_runtime::RuntimeError;
use shardwright_runtime_kubernetes::ApplyError;
use shardwright_runtime_kubernetes::outside::AskError;

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
    /// One word in CamelCase.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Apply(ApplyError::UnknownSettings(_)) => "SettingUnknown",
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
