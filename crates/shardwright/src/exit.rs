//! Exit status: 0 done or healthy, 1 not healthy or failed, 2 usage, 3 refused because it is unsafe, 128 + N ended by
//! signal N.

use std::process::ExitCode;

use shardwright_runtime::PenError;
use shardwright_runtime_local::{LocalError, StateError, TrialError};

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

impl ExitStatus {
    /// The number that this process ends with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Interrupted(signal) => 128_u8.saturating_add(signal),
        }
    }

    /// What another run ended with. A signal that ended that one is a failure of this one.
    pub(crate) fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Success,
            2 => Self::Usage,
            3 => Self::Refused,
            _ => Self::Failure,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
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

/// A run that ended before what was asked for is so; the text says what is left.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct NotDone {
    pub(crate) why: WhyNotDone,
    pub(crate) text: String,
    /// What to do about it, where that is known.
    pub(crate) remedy: Option<String>,
}

impl NotDone {
    pub(crate) fn new(why: WhyNotDone, text: impl Into<String>) -> Self {
        Self {
            why,
            text: text.into(),
            remedy: None,
        }
    }
}

/// Why a run ended before what was asked for is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WhyNotDone {
    /// The time was up (`--timeout`).
    TimedOut,
    /// The time was up, and no operator has taken up what was asked for.
    NoOperator,
    /// Nothing more happens unless a person does something.
    ManualDecision,
    /// The planner, or the operator, does not do what was asked for: it is unsafe.
    RequestRefused,
    /// All is done but for servers that do not run.
    ServersDown,
    /// Nothing more is to be done, and what was asked for is not so.
    NotSo,
    /// Data was replaced by that of another cluster, which was met.
    DataReplaced,
    /// The plan was stopped by its own check.
    PlanUnsafe,
    /// A step failed.
    StepFailed,
    /// Somebody else asked for something else, or took away what was asked for.
    Overruled,
    /// The run that has the lock, which it was handed over to, does not answer.
    NoAnswer,
    /// The run that carried it out did not say how it ended.
    RunLost,
}

impl WhyNotDone {
    /// The stable word for it.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::TimedOut => "timed-out",
            Self::NoOperator => "no-operator",
            Self::ManualDecision => "manual-decision",
            Self::RequestRefused => "request-refused",
            Self::ServersDown => "servers-down",
            Self::NotSo => "not-so",
            Self::DataReplaced => "data-replaced",
            Self::PlanUnsafe => "plan-unsafe",
            Self::StepFailed => "step-failed",
            Self::Overruled => "overruled",
            Self::NoAnswer => "no-answer",
            Self::RunLost => "run-lost",
        }
    }

    /// Whether only time lacked.
    pub(crate) fn is_late(self) -> bool {
        matches!(self, Self::TimedOut | Self::NoOperator | Self::NoAnswer)
    }

    fn status(self) -> ExitStatus {
        match self {
            Self::ManualDecision | Self::RequestRefused => ExitStatus::Refused,
            Self::TimedOut
            | Self::NoOperator
            | Self::ServersDown
            | Self::NotSo
            | Self::DataReplaced
            | Self::PlanUnsafe
            | Self::StepFailed
            | Self::Overruled
            | Self::NoAnswer
            | Self::RunLost => ExitStatus::Failure,
        }
    }
}

impl ExitStatus {
    /// The status that an error ends with.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            let trial = cause.downcast_ref::<TrialError>();
            if cause.is::<UsageError>()
                || cause.is::<shardwright_manifest::Problems>()
                || matches!(trial, Some(TrialError::Refused { .. }))
            {
                return Self::Usage;
            }
            if cause.is::<Interrupted>() {
                return signal_that_came().map_or(Self::Failure, Self::Interrupted);
            }
            if let Some(not_done) = cause.downcast_ref::<NotDone>() {
                return not_done.why.status();
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
