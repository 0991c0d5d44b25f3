//! Each wait and each step as one word, for conditions, events and metrics. Exhaustive: a new kind must be given one.

use shardwright_planner::safety::{NoMove, NoRecreate};
use shardwright_planner::{Action, Crowded, LostMajority, Waiting};
use shardwright_topology::Observed;

use crate::reasons::{self, EndedBy, Reason};

/// What stands in the commands of texts for the name of the cluster, which is put there with the names of pods.
pub(crate) const TARGET: &str = "TARGET";

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
    of_wait(waiting).word
}

/// Whether only a person ends the wait. On Kubernetes pods come by themselves, and with them nodes and replicas.
pub(crate) fn needs_a_person(waiting: &Waiting) -> bool {
    of_wait(waiting).ended_by == EndedBy::Person
}

/// The wait in the table of reasons. A kind that a person has to end at times only has two.
fn of_wait(waiting: &Waiting) -> Reason {
    let stopped = waiting.needs_a_person();
    match waiting {
        Waiting::DataLost => reasons::DATA_LOST,
        Waiting::ShardLost { .. } => reasons::SHARD_LOST,
        Waiting::Uncovered { .. } | Waiting::KeysUnclaimed { .. } => reasons::SLOTS_UNCOVERED,
        Waiting::KeysUncounted { .. } => reasons::KEYS_UNCOUNTED,
        Waiting::Contested { .. } => reasons::SLOTS_CONTESTED,
        Waiting::MajorityLost(_) => reasons::MAJORITY_LOST,
        Waiting::Foreign { .. } => reasons::FOREIGN_NODE,
        Waiting::DuplicateId(_) => reasons::DUPLICATE_NODE_ID,
        Waiting::ServersMissing { .. } | Waiting::NodesMissing { .. } => reasons::PODS_MISSING,
        Waiting::ServerUnheard { .. } => reasons::POD_UNHEARD,
        Waiting::AnnouncedUnheard { .. } => reasons::ANNOUNCED_UNREACHABLE,
        Waiting::Stranded { .. } => reasons::HOST_AWAY,
        Waiting::StartHeld { .. } => reasons::START_HELD,
        Waiting::DirectoryUnread { .. } => reasons::DIRECTORY_UNREAD,
        Waiting::TableRefused { .. } => reasons::TABLE_REFUSED,
        Waiting::DataRefused { .. } => reasons::DATA_REFUSED,
        Waiting::PlaceFollowed { .. } => reasons::PLACE_FOLLOWED,
        Waiting::PrimarySilent { .. } => reasons::PRIMARY_SILENT,
        Waiting::IdLost { .. } => reasons::NODE_ID_LOST,
        Waiting::DeathUnproved { .. } if stopped => reasons::ADDRESS_REFUSES,
        Waiting::DeathUnproved { .. } => reasons::DEATH_UNPROVED,
        Waiting::NoCandidate { .. } => reasons::NO_CANDIDATE,
        Waiting::SiblingUnheard { .. } => reasons::SIBLING_UNHEARD,
        Waiting::StartsAgain { .. } => reasons::STARTS_AGAIN,
        Waiting::RoleNotSeen { .. } => reasons::ROLE_NOT_SEEN,
        Waiting::Promotion { .. } => reasons::PROMOTION,
        Waiting::RestartGrace { .. } => reasons::RESTART_GRACE,
        Waiting::Views { .. } | Waiting::Forgotten { .. } => reasons::VIEWS_DIFFER,
        Waiting::StateNotOk { .. } => reasons::STATE_NOT_OK,
        Waiting::ReplicaCatchUp { .. } => reasons::REPLICA_CATCH_UP,
        Waiting::RepeatedCopy(_) => reasons::REPLICA_BUFFER_TOO_SMALL,
        Waiting::CannotCopy { .. } => reasons::CANNOT_COPY,
        Waiting::CopiesElsewhere { .. } if stopped => reasons::COPY_WOULD_BE_DROPPED,
        Waiting::CopiesElsewhere { .. } => reasons::COPIES_ELSEWHERE,
        Waiting::ReplicaMissing { .. } => reasons::REPLICA_MISSING,
        Waiting::Lend { .. } => reasons::REPLICA_COMES,
        Waiting::Spread(spread) => match spread.because {
            Crowded::Copies(_) => reasons::REPLICA_MOVES,
            Crowded::Primaries(_) => reasons::PRIMARY_MOVES,
        },
        Waiting::OpenSlotHeld { .. } if stopped => reasons::OPEN_SLOT_STOPPED,
        Waiting::OpenSlot { .. } | Waiting::OpenSlotHeld { .. } => reasons::OPEN_SLOT,
        Waiting::StrayKeys { .. } if stopped => reasons::STRAY_KEYS_STOPPED,
        Waiting::StrayKeys { .. } => reasons::STRAY_KEYS,
        Waiting::ShardsDiffer { .. } => reasons::SHARDS_DIFFER,
        Waiting::Moves { why, .. } if why.contains(&NoMove::Paused) => reasons::MOVES_PAUSED,
        Waiting::Moves { .. } if stopped => reasons::SLOTS_CANNOT_MOVE,
        Waiting::Moves { .. } => reasons::SLOTS_MOVE,
        Waiting::Surplus { .. } if stopped => reasons::POD_HOLDS_KEYS,
        Waiting::Surplus { .. } | Waiting::Drains { .. } => reasons::POD_NOT_WANTED,
        Waiting::Request { .. } => reasons::REQUEST_REFUSED,
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
        Waiting::MajorityLost(lost) => majority_lost(lost),
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

/// A lost majority, with the command by which a person goes on.
fn majority_lost(lost: &LostMajority) -> String {
    match lost.takeover {
        Some((primary, replica)) => format!(
            "{lost}, or where a person knows that {primary:?} is dead: shardwright failover {TARGET} {replica:?} \
             --takeover --i-know-the-primary-is-dead"
        ),
        None => lost.to_string(),
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
        Action::Replace { .. } => "PodReplaced",
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
