//! Exit status: 0 done or healthy, 1 not healthy or failed, 2 usage, 3 refused because it is unsafe, 128 + N ended by
//! signal N.

use std::process::ExitCode;

use shardwright_runtime::PenError;
use shardwright_runtime_local::{LocalError, StateError};

use crate::stop::{Interrupted, signal_that_came};

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExitStatus {
    /// Done, or healthy.
    Success,
    /// Not healthy, or failed.
    Failure,
    /// It was called wrongly.
    Usage,
    /// Refused, because it is unsafe.
    Refused,
    /// Ended by this signal before it was done.
    Interrupted(u8),
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(match status {
            ExitStatus::Success => 0,
            ExitStatus::Failure => 1,
            ExitStatus::Usage => 2,
            ExitStatus::Refused => 3,
            ExitStatus::Interrupted(signal) => 128_u8.saturating_add(signal),
        })
    }
}

/// An error that a person can mend by calling the command differently.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Something that is not done because it is unsafe; the text says what to do instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

impl ExitStatus {
    /// The status that an error ends with.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if cause.is::<UsageError>() || cause.is::<shardwright_manifest::Problems>() {
                return Self::Usage;
            }
            if cause.is::<Interrupted>() {
                return signal_that_came().map_or(Self::Failure, Self::Interrupted);
            }
            if cause.is::<Refusal>() || cause.is::<PenError>() {
                return Self::Refused;
            }
            let state = cause.downcast_ref::<StateError>();
            let local = cause.downcast_ref::<LocalError>();
            if matches!(
                local,
                Some(
                    LocalError::PortsInUse { .. }
                        | LocalError::PasswordsInUse { .. }
                        | LocalError::OtherEngine { .. }
                        | LocalError::Leftover { .. }
                )
            ) {
                return Self::Refused;
            }
            let state = state.or(match local {
                Some(LocalError::State(state)) => Some(state),
                _ => None,
            });
            match state {
                Some(
                    StateError::Another { .. }
                    | StateError::NotOurs { .. }
                    | StateError::Locked { .. },
                ) => {
                    return Self::Refused;
                }
                Some(StateError::NoCluster { .. } | StateError::NoHome) => return Self::Usage,
                Some(
                    StateError::File { .. }
                    | StateError::Damaged { .. }
                    | StateError::NoNodeId { .. },
                )
                | None => {}
            }
        }
        Self::Failure
    }
}
