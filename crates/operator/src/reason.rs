//! Each wait and each step as one word, for conditions, events and metrics. Exhaustive: a new kind must be given one.

use shardwright_planner::safety::{NoMove, NoRecreate};
use shardwright_planner::{Action, Crowded, Waiting};
use shardwright_topology::Observed;

/// The reason while slots move.
pub(crate) const SLOTS_MOVE: &str = "SlotsMove";
/// The reason while slots would move, and a person paused that.
pub(crate) const MOVES_PAUSED: &str = "MovesPaused";

/// What a wait means for the cluster while it lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// Data, service or redundancy is less than declared.
    Weaker,
    /// Only news or work is outstanding.
    Outstanding,
}

/// Whether the cluster is weaker while this lasts.
pub(crate) fn effect(waiting: &Waiting) -> Effect {
    match waiting {
        Waiting::DataLost
        | Waiting::ShardLost { .. }
        | Waiting::Uncovered { .. }
        | Waiting::KeysUncounted { .. }
        | Waiting::KeysUnclaimed { .. }
        | Waiting::Contested { .. }
        | Waiting::MajorityLost(_)
        | Waiting::Foreign { .. }
        | Waiting::DuplicateId(_)
        | Waiting::ServersMissing { .. }
        | Waiting::ServerUnheard { .. }
        | Waiting::AnnouncedUnheard { .. }
        | Waiting::Stranded { .. }
        | Waiting::StartHeld { .. }
        | Waiting::DirectoryUnread { .. }
        | Waiting::TableRefused { .. }
        | Waiting::DataRefused { .. }
        | Waiting::PlaceFollowed { .. }
        | Waiting::PrimarySilent { .. }
        | Waiting::IdLost { .. }
        | Waiting::DeathUnproved { .. }
        | Waiting::NoCandidate { .. }
        | Waiting::SiblingUnheard { .. }
        | Waiting::StartsAgain { .. }
        | Waiting::RoleNotSeen { .. }
        | Waiting::Promotion { .. }
        | Waiting::RestartGrace { .. }
        | Waiting::StateNotOk { .. }
        | Waiting::ReplicaCatchUp { .. }
        | Waiting::RepeatedCopy(_)
        | Waiting::CannotCopy { .. }
        | Waiting::CopiesElsewhere { .. }
        | Waiting::ReplicaMissing { .. }
        | Waiting::Lend { .. }
        | Waiting::StrayKeys { .. }
        | Waiting::OpenSlot { .. }
        | Waiting::OpenSlotHeld { .. } => Effect::Weaker,
        Waiting::Views { .. }
        | Waiting::Forgotten { .. }
        | Waiting::Spread { .. }
        | Waiting::ShardsDiffer { .. }
        | Waiting::NodesMissing { .. }
        | Waiting::Moves { .. }
        | Waiting::Surplus { .. }
        | Waiting::Drains { .. }
        | Waiting::Request { .. } => Effect::Outstanding,
    }
}

/// The wait as one word in CamelCase.
pub(crate) fn reason(waiting: &Waiting) -> &'static str {
    match waiting {
        Waiting::DataLost => "DataLost",
        Waiting::ShardLost { .. } => "ShardLost",
        Waiting::Uncovered { .. }
        | Waiting::KeysUncounted { .. }
        | Waiting::KeysUnclaimed { .. } => "SlotsUncovered",
        Waiting::Contested { .. } => "SlotsContested",
        Waiting::MajorityLost(_) => "MajorityLost",
        Waiting::Foreign { .. } => "ForeignNode",
        Waiting::DuplicateId(_) => "DuplicateNodeId",
        Waiting::ServersMissing { .. } | Waiting::NodesMissing { .. } => "PodsMissing",
        Waiting::ServerUnheard { .. } | Waiting::AnnouncedUnheard { .. } => "PodUnheard",
        Waiting::Stranded { .. } => "HostAway",
        Waiting::StartHeld { .. } => "StartHeld",
        Waiting::DirectoryUnread { .. } => "DirectoryUnread",
        Waiting::TableRefused { .. } => "TableRefused",
        Waiting::DataRefused { .. } => "DataRefused",
        Waiting::PlaceFollowed { .. } => "PlaceFollowed",
        Waiting::PrimarySilent { .. } => "PrimarySilent",
        Waiting::IdLost { .. } => "NodeIdLost",
        Waiting::DeathUnproved { .. } => "DeathUnproved",
        Waiting::NoCandidate { .. } => "NoCandidate",
        Waiting::SiblingUnheard { .. } => "SiblingUnheard",
        Waiting::StartsAgain { .. } => "StartsAgain",
        Waiting::RoleNotSeen { .. } => "RoleNotSeen",
        Waiting::Promotion { .. } => "Promotion",
        Waiting::RestartGrace { .. } => "RestartGrace",
        Waiting::Views { .. } | Waiting::Forgotten { .. } => "ViewsDiffer",
        Waiting::StateNotOk { .. } => "StateNotOk",
        Waiting::ReplicaCatchUp { .. } => "ReplicaCatchUp",
        Waiting::RepeatedCopy(_) => "ReplicaBufferTooSmall",
        Waiting::CannotCopy { .. } => "CannotCopyItsPrimary",
        Waiting::CopiesElsewhere { .. } => "CopiesElsewhere",
        Waiting::ReplicaMissing { .. } => "ReplicaMissing",
        Waiting::Lend { .. } => "ReplicaComes",
        Waiting::Spread(spread) => match spread.because {
            Crowded::Copies(_) => "ReplicaMoves",
            Crowded::Primaries(_) => "PrimaryMoves",
        },
        Waiting::OpenSlot { .. } | Waiting::OpenSlotHeld { .. } => "OpenSlot",
        Waiting::StrayKeys { .. } => "StrayKeys",
        Waiting::ShardsDiffer { .. } => "ShardsDiffer",
        Waiting::Moves { why, .. } if why.contains(&NoMove::Paused) => MOVES_PAUSED,
        Waiting::Moves { .. } => SLOTS_MOVE,
        Waiting::Surplus { .. } | Waiting::Drains { .. } => "PodNotWanted",
        Waiting::Request { .. } => "RequestRefused",
    }
}

/// The wait for a person, without the figures that change from pass to pass: each change would be a write.
pub(crate) fn stable_text(waiting: &Waiting) -> String {
    match waiting {
        Waiting::RestartGrace { server, .. } => {
            format!("{server} is given time to return with every write")
        }
        Waiting::Stranded {
            server,
            host,
            why: NoRecreate::NotYet { .. },
        } => {
            format!("{server} waits for {host}, which is away and has its volume: it may return")
        }
        Waiting::ReplicaCatchUp {
            node,
            lag_bytes: Some(_),
        } => format!("replica {node:?} catches up"),
        // How many are left stands in `moves`.
        Waiting::Moves { why, .. } if why.is_empty() => "slots move".to_owned(),
        Waiting::Moves { why, .. } => {
            let why: Vec<String> = why.iter().map(stable_why).collect();
            format!("slots wait to move: {}", why.join("; "))
        }
        Waiting::StrayKeys { node, .. } => {
            format!("{node:?} holds keys of slots that it does not own")
        }
        Waiting::DataLost
        | Waiting::ShardLost { .. }
        | Waiting::Uncovered { .. }
        | Waiting::KeysUncounted { .. }
        | Waiting::KeysUnclaimed { .. }
        | Waiting::Contested { .. }
        | Waiting::MajorityLost(_)
        | Waiting::Foreign { .. }
        | Waiting::DuplicateId(_)
        | Waiting::ServersMissing { .. }
        | Waiting::ServerUnheard { .. }
        | Waiting::AnnouncedUnheard { .. }
        | Waiting::Stranded { .. }
        | Waiting::StartHeld { .. }
        | Waiting::DirectoryUnread { .. }
        | Waiting::TableRefused { .. }
        | Waiting::DataRefused { .. }
        | Waiting::PlaceFollowed { .. }
        | Waiting::PrimarySilent { .. }
        | Waiting::IdLost { .. }
        | Waiting::DeathUnproved { .. }
        | Waiting::NoCandidate { .. }
        | Waiting::SiblingUnheard { .. }
        | Waiting::StartsAgain { .. }
        | Waiting::RoleNotSeen { .. }
        | Waiting::Promotion { .. }
        | Waiting::Views { .. }
        | Waiting::Forgotten { .. }
        | Waiting::StateNotOk { .. }
        | Waiting::ReplicaCatchUp {
            lag_bytes: None, ..
        }
        | Waiting::RepeatedCopy(_)
        | Waiting::CannotCopy { .. }
        | Waiting::CopiesElsewhere { .. }
        | Waiting::ReplicaMissing { .. }
        | Waiting::Lend { .. }
        | Waiting::Spread { .. }
        | Waiting::OpenSlot { .. }
        | Waiting::OpenSlotHeld { .. }
        | Waiting::ShardsDiffer { .. }
        | Waiting::NodesMissing { .. }
        | Waiting::Surplus { .. }
        | Waiting::Drains { .. }
        | Waiting::Request { .. } => waiting.to_string(),
    }
}

/// The same of a reason why slots do not move.
pub(crate) fn stable_why(why: &NoMove) -> String {
    match why {
        NoMove::Memory { node, .. } => {
            format!("{node:?} has less memory than about what would come needs")
        }
        NoMove::SizeUnknown { node, .. } => {
            format!("how much memory slots take at {node:?} could not be measured")
        }
        _ => why.to_string(),
    }
}

/// The step's kind as one word in CamelCase.
pub(crate) fn of_action(action: &Action) -> &'static str {
    match action {
        Action::StartServer { .. } => "Start",
        Action::StartAfresh { .. } => "StartAfresh",
        Action::Recreate { .. } => "VolumeGivenUp",
        Action::RemoveServer { .. } => "PodRemoved",
        Action::RecordFormed => "Formed",
        Action::SetConfigEpoch { .. } => "SetConfigEpoch",
        Action::AddSlots { .. } => "AddSlots",
        Action::Meet { .. } => "Meet",
        Action::Replicate { .. } => "Replicate",
        Action::SetElectable { .. } => "SetElectable",
        Action::Switchover { .. } => "Switchover",
        Action::Failover { .. } => "Failover",
        Action::Takeover { .. } => "Takeover",
        Action::Forget { .. } => "Forget",
        Action::Reset { .. } => "Reset",
        Action::CloseSlot { .. } => "CloseSlot",
        Action::CopyFunctions { .. } => "CopyFunctions",
        Action::AssignSlot { .. } => "AssignSlot",
        Action::RaiseEpoch { .. } => "RaiseEpoch",
        Action::MoveKeys { .. } => "MoveKeys",
        Action::MoveSlots { .. } => "MoveSlots",
    }
}

/// The text with the pods' names for the short ids of their nodes: a person knows pods.
pub(crate) fn named(text: &str, o: &Observed) -> String {
    let mut text = text.to_owned();
    for member in o.members().values() {
        if let Some(server) = &member.server {
            text = text.replace(&member.id.short(), &server.0);
        }
    }
    text
}

/// At most so many bytes of the text.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    const MORE: char = '…';
    if text.len() > bytes_max {
        let mut end = bytes_max.saturating_sub(MORE.len_utf8());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push(MORE);
    }
    text
}
