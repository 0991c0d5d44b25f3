//! A stable word for each error and each wait, for programs. Exhaustive: a new kind must be given one.

use shardwright_engine::{Error, Unreachable};
use shardwright_manifest::Problems;
use shardwright_planner::safety::NoMove;
use shardwright_planner::{Crowded, Waiting};
use shardwright_runtime::{GuestError, PenError, RuntimeError, StepError};
use shardwright_runtime_kubernetes::outside::AskError;
use shardwright_runtime_local::{LocalError, ProcessError, StateError, TrialError};

use crate::exit::{NotDone, Refusal, UsageError, WhyNotDone};
use crate::hint;
use crate::requests::Overtaken;
use crate::stop::Interrupted;

/// The word for an error: that of the first cause, from the outside in, that has one.
pub(crate) fn of_error(error: &anyhow::Error) -> &'static str {
    error.chain().find_map(of_cause).unwrap_or("failed")
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if cause.is::<UsageError>() {
        return Some("usage");
    }
    if cause.is::<Problems>() {
        return Some("manifest-invalid");
    }
    if cause.is::<Interrupted>() {
        return Some("interrupted");
    }
    if cause.is::<Refusal>() {
        return Some("refused");
    }
    if let Some(not_done) = cause.downcast_ref::<NotDone>() {
        return Some(not_done.why.code());
    }
    if cause.is::<Overtaken>() {
        return Some(WhyNotDone::Overruled.code());
    }
    if let Some(error) = cause.downcast_ref::<Error>() {
        return Some(of_server(error));
    }
    if let Some(error) = cause.downcast_ref::<PenError>() {
        return match error {
            PenError::Taken { .. } => Some("another-run"),
            PenError::Unknown(_) => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<GuestError>() {
        return Some(match error {
            GuestError::Name { .. } | GuestError::NoAddress { .. } => "name-unknown",
            GuestError::Same { .. } => "usage",
        });
    }
    if let Some(error) = cause.downcast_ref::<AskError>() {
        return Some(match error {
            AskError::Request(_) => "kubernetes-api",
            AskError::Gone(_) => "object-gone",
            AskError::Another(_) => "another-request",
            AskError::Busy(_) => "object-busy",
        });
    }
    if let Some(error) = cause.downcast_ref::<TrialError>() {
        return error.is_a_refusal().then_some("configuration-refused");
    }
    if let Some(error) = cause.downcast_ref::<LocalError>() {
        return of_local(error);
    }
    if let Some(error) = cause.downcast_ref::<StateError>() {
        return Some(of_state(error));
    }
    if let Some(error) = cause.downcast_ref::<StepError>() {
        return of_step(error);
    }
    if cause.is::<kube::Error>() {
        return Some("kubernetes-api");
    }
    // A runtime's own error says more in its cause, where it has one.
    let last = cause.is::<RuntimeError>() && cause.source().is_none();
    last.then_some("runtime")
}

/// The word for what a server, or the way to it, did.
fn of_server(error: &Error) -> &'static str {
    match error {
        Error::Unreachable {
            why: Unreachable::NoHandshake,
            ..
        }
        | Error::Tls { .. } => "tls",
        Error::Unreachable { .. } => "server-unreachable",
        Error::Closed { .. } => "connection-closed",
        Error::TimedOut { .. } => "command-timed-out",
        Error::Auth { .. } => "authentication",
        Error::NoPerm { .. } => "permission",
        Error::UnknownCommand { .. } => "command-unknown",
        Error::NotCluster { .. } => "not-a-cluster-node",
        Error::Loading { .. } => "server-loading",
        Error::Server { .. } => "server-refused",
        Error::Protocol { .. } => "protocol",
    }
}

fn of_local(error: &LocalError) -> Option<&'static str> {
    match error {
        LocalError::State(state) => Some(of_state(state)),
        // Its cause says it.
        LocalError::Manifest { .. } => None,
        LocalError::Secret(_) => Some("password"),
        LocalError::Machine(_) => Some("machine"),
        LocalError::Process(_) => Some("process"),
        LocalError::Engine(_) => Some("engine-program"),
        LocalError::Render(_) => Some("manifest-invalid"),
        LocalError::File { .. } => Some("file"),
        LocalError::PortsInUse { .. } => Some("ports-in-use"),
        LocalError::OtherEngine { .. } => Some("other-engine"),
        LocalError::PasswordsInUse { .. } => Some("passwords-in-use"),
        LocalError::Leftover { .. } => Some("directory-in-the-way"),
    }
}

fn of_state(error: &StateError) -> &'static str {
    match error {
        StateError::File { .. } => "file",
        StateError::Damaged { .. } | StateError::NoNodeId { .. } => "state-damaged",
        StateError::Another { .. } => "another-cluster",
        StateError::NotOurs { .. } => "directory-in-the-way",
        StateError::NoCluster { .. } => "no-cluster",
        StateError::Locked { .. } => "another-run",
        StateError::NoHome => "usage",
    }
}

fn of_step(error: &StepError) -> Option<&'static str> {
    match error {
        // Their causes say it.
        StepError::Server(_) | StepError::Runtime(_) => None,
        StepError::Moved(_) => Some("precondition-failed"),
        StepError::Move(_) => Some("move-failed"),
        StepError::BothSides { .. } => Some("key-conflict"),
        StepError::NoDatabase { .. } => Some("database-missing"),
        StepError::Untold(_) => Some("not-told"),
        StepError::Skipped => Some("step-skipped"),
    }
}

/// The word for a wait.
pub(crate) fn of_wait(wait: &Waiting) -> &'static str {
    match wait {
        Waiting::DataLost => "data-lost",
        Waiting::ShardLost { .. } => "shard-lost",
        Waiting::Uncovered { .. } => "slots-uncovered",
        Waiting::KeysUncounted { .. } => "keys-uncounted",
        Waiting::KeysUnclaimed { .. } => "keys-unclaimed",
        Waiting::Contested { .. } => "slots-contested",
        Waiting::MajorityLost(_) => "majority-lost",
        Waiting::Foreign { .. } => "foreign-node",
        Waiting::DuplicateId(_) => "duplicate-node-id",
        Waiting::ServersMissing { .. } => "servers-missing",
        Waiting::NodesMissing { .. } => "nodes-missing",
        Waiting::ServerUnheard { .. } => "server-unreachable",
        Waiting::AnnouncedUnheard { .. } => "announced-address-unreachable",
        Waiting::Stranded { .. } => "host-away",
        Waiting::StartHeld { .. } => "start-held",
        Waiting::StartsAgain { .. } => "starts-again",
        Waiting::DirectoryUnread { .. } => "directory-unreadable",
        Waiting::TableRefused { .. } => "nodes-conf-refused",
        Waiting::DataRefused { .. } => "data-refused",
        Waiting::PlaceFollowed { .. } => "address-followed",
        Waiting::PrimarySilent { .. } => "primary-unreachable",
        Waiting::IdLost { .. } => "node-id-lost",
        Waiting::DeathUnproved { .. } => "death-unproved",
        Waiting::NoCandidate { .. } => "no-promotion-candidate",
        Waiting::SiblingUnheard { .. } => "replica-unreachable",
        Waiting::RoleNotSeen { .. } => "role-not-seen",
        Waiting::Promotion { .. } => "promotion",
        Waiting::RestartGrace { .. } => "restart-grace",
        Waiting::Views { .. } => "views-differ",
        Waiting::Forgotten { .. } => "forgotten-node",
        Waiting::StateNotOk { .. } => "cluster-state-fail",
        Waiting::ReplicaCatchUp { .. } => "replica-lag",
        Waiting::CannotCopy { .. } => "version-too-old",
        Waiting::RepeatedCopy(_) => "copy-begins-again",
        Waiting::CopiesElsewhere { .. } => "copies-elsewhere",
        Waiting::ReplicaMissing { .. } => "replica-missing",
        Waiting::Lend { .. } => "replica-reassigned",
        Waiting::Spread(spread) => match spread.because {
            Crowded::Copies(_) => "replica-placement",
            Crowded::Primaries(_) => "primary-placement",
        },
        Waiting::OpenSlot { .. } | Waiting::OpenSlotHeld { .. } => "open-slot",
        Waiting::StrayKeys { .. } => "stray-keys",
        Waiting::ShardsDiffer { .. } => "shards-differ",
        Waiting::Moves { why, .. } if why.contains(&NoMove::Paused) => "moves-paused",
        Waiting::Moves { .. } => "slots-to-move",
        Waiting::Surplus { .. } | Waiting::Drains { .. } => "surplus-server",
        Waiting::Request { .. } => "request-refused",
    }
}

/// What to do about an error. Texts of errors say what happened and then, after a semicolon, what to do.
pub(crate) fn remedy(error: &anyhow::Error) -> Option<String> {
    let not_done = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<NotDone>());
    if let Some(not_done) = not_done {
        return not_done.remedy.clone();
    }
    if let Some(instead) = hint::login(error) {
        return Some(instead.to_owned());
    }
    if let Some(remedy) = error.chain().find_map(of_failed_start) {
        return Some(remedy);
    }
    let after = |text: String| text.split_once("; ").map(|(_, rest)| rest.to_owned());
    error.chain().find_map(|cause| after(cause.to_string()))
}

/// What to do about a server that ended at once, where that is known: the text of that error ends with its log.
fn of_failed_start(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    let local = cause.downcast_ref::<LocalError>()?;
    let LocalError::Process(ProcessError::Gone { failure, .. }) = local else {
        return None;
    };
    failure.as_ref()?.remedy.clone()
}
