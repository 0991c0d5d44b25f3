//! What a plan waits for, typed: the same value feeds the status, the exit code and the metrics.

mod text;

use std::collections::BTreeSet;
use std::fmt;

use shardwright_topology::{
    Address, DuplicateId, NodeId, ServerName, Slot, SlotSet, StartFailure, Why,
};

use crate::evidence::Follower;
use crate::safety::{NoMove, NoRecreate, NoRemove};
use crate::{Crowded, LostMajority, NoDeath, RepeatedCopy};

/// Why a server may not be taken in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Foreign {
    /// It knows nodes that are none of ours.
    KnowsOthers {
        /// How many.
        nodes: usize,
    },
    /// It holds keys, and is not known to be one of ours.
    HoldsKeys {
        /// How many.
        keys: u64,
    },
    /// It holds keys of slots that another claims as well, which holds keys too.
    SameSlots {
        /// How many.
        keys: u64,
        /// The other.
        rival: ServerName,
        /// How many that one holds.
        theirs: u64,
    },
    /// It owns slots that are not its to own.
    OwnsSlots {
        /// Which.
        slots: SlotSet,
    },
    /// It was this node, and has its data: it lost its table of nodes, and speaks under another id. It is taken in once
    /// everyone has forgotten the old one.
    Returned {
        /// The id that it had.
        was: NodeId,
    },
    /// It is blank, but nobody asked for it.
    NotAsked,
}

/// A pause between two starts of a server that is not heard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rest {
    /// How often it was told to start.
    pub times: u32,
    /// For how long it rests yet, in milliseconds.
    pub left_ms: u64,
    /// Why it ended the last time, where that is known.
    pub failure: Option<Box<StartFailure>>,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KnowsOthers { nodes } => write!(f, "it already knows {nodes} other node(s)"),
            Self::HoldsKeys { keys } => write!(f, "it already holds {keys} key(s)"),
            Self::SameSlots {
                keys,
                rival,
                theirs,
            } => write!(
                f,
                "it holds {keys} key(s), of slots that {rival} claims as well, which holds {theirs}"
            ),
            Self::OwnsSlots { slots } => write!(f, "it already owns slots {slots}"),
            Self::Returned { was } => {
                write!(
                    f,
                    "it was node {}, lost its table of nodes, and has its data: it is taken in once the old id is forgotten",
                    was.short()
                )
            }
            Self::NotAsked => f.write_str("it is a new node, and nobody asked to let it join"),
        }
    }
}

/// By what a replica is to get a better place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SpreadBy {
    /// It changes roles with its primary.
    Role,
    /// It takes a copy of another primary.
    Copy,
}

/// A change for a better placement.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Spread {
    /// The replica that will move: the one that shares its place, or one for which it is enough that roles change.
    pub replica: NodeId,
    /// Its primary, whose role it takes; or the primary that it will copy.
    pub primary: NodeId,
    /// By what.
    pub by: SpreadBy,
    /// What for.
    pub because: Crowded,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.by {
            SpreadBy::Role => "takes the role of primary",
            SpreadBy::Copy => "moves to primary",
        };
        let (replica, primary, because) = (self.replica, self.primary, &self.because);
        let once = "once all was at rest for a while";
        write!(f, "replica {replica:?} {how} {primary:?} {once}: {because}")
    }
}

/// What the file of a dead primary may have that none of its replicas has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OnlyOnDisk {
    /// The writes of the last moment.
    LastWrites,
    /// Keys of slots that it was taking in.
    MovedKeys,
    /// What was written while the replica that would take its place had no link to it.
    WritesSinceLink {
        /// The replica.
        replica: NodeId,
    },
}

/// Something that must happen, or be decided by a person, before the plan can go on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Waiting {
    /// The cluster was formed, and every node is blank: its data is lost. Never formed anew without consent.
    DataLost,
    /// A shard's last copy is gone.
    ShardLost {
        /// Its primary.
        primary: NodeId,
        /// Its slots.
        slots: SlotSet,
    },
    /// Nobody owns these slots.
    Uncovered {
        /// Which.
        slots: SlotSet,
    },
    /// Nobody owns these slots, and a node that has keys did not count those of them.
    KeysUncounted {
        /// Which node.
        node: NodeId,
        /// Which slots.
        slots: SlotSet,
    },
    /// Nobody owns these slots, these nodes hold keys of them, and nothing proves which is to own them.
    KeysUnclaimed {
        /// Which nodes.
        nodes: BTreeSet<NodeId>,
        /// Which slots.
        slots: SlotSet,
    },
    /// Two nodes claim these slots with one epoch; the engines settle this themselves.
    Contested {
        /// Which.
        slots: SlotSet,
    },
    /// Too few primaries are reachable for a vote: nobody is promoted until they return, or a person says which is dead.
    MajorityLost(Box<LostMajority>),
    /// A server does not belong here.
    Foreign {
        /// Which.
        server: ServerName,
        /// Why.
        what: Foreign,
    },
    /// Two processes give one node id as theirs: a disk was copied.
    DuplicateId(Box<DuplicateId>),
    /// There are fewer servers than the shape needs.
    ServersMissing {
        /// How many there are.
        have: usize,
        /// How many it needs.
        want: usize,
    },
    /// A node was reached, and not at the address that it announces: clients are sent there.
    AnnouncedUnheard {
        /// The server at the announced address.
        server: ServerName,
        /// The node.
        node: NodeId,
        /// What kept the server from being heard.
        why: Why,
    },
    /// A server was not heard.
    ServerUnheard {
        /// Which.
        server: ServerName,
        /// Why.
        why: Why,
    },
    /// A server's volume ties it to a host that is away, and it is not made anew elsewhere.
    Stranded {
        /// Which.
        server: ServerName,
        /// The host.
        host: String,
        /// Why it waits.
        why: NoRecreate,
    },
    /// A server is not started: its memory was the only or freshest copy, and a start would empty its replicas.
    StartHeld {
        /// Which.
        server: ServerName,
    },
    /// A server is not started: what its directory holds is not known, or is not its own.
    DirectoryUnread {
        /// Which.
        server: ServerName,
        /// What is known.
        why: String,
    },
    /// A server was told to start, more than once, and was not heard since: it rests before it is told again.
    StartsAgain {
        /// Which.
        server: ServerName,
        /// How often it was, and for how long it rests.
        rest: Rest,
    },
    /// A server can't be started with its table of nodes, and its directory may hold the last copy of its slots.
    TableRefused {
        /// Which.
        server: ServerName,
    },
    /// A server can't load the data on its disk, which may be the last copy of its slots.
    DataRefused {
        /// Which.
        server: ServerName,
        /// What it can't load and what may repair that, where it is known.
        failure: Option<Box<StartFailure>>,
    },
    /// A server without data is not started at its address: who follows that address would be emptied.
    PlaceFollowed {
        /// Which.
        server: ServerName,
        /// Who may follow it.
        by: Follower,
    },
    /// A primary is silent, and nothing proves it dead: the engine's own failover, or a person, decides.
    PrimarySilent {
        /// Which.
        node: NodeId,
    },
    /// A primary is listed without an address: the engine promotes nobody in its place.
    IdLost {
        /// Which.
        node: NodeId,
    },
    /// A primary refuses connections, and that does not prove its process to be gone.
    DeathUnproved {
        /// Which.
        node: NodeId,
        /// Why not.
        why: NoDeath,
    },
    /// A dead primary has no replica that could be promoted.
    NoCandidate {
        /// The primary.
        primary: NodeId,
    },
    /// A replica that may hold a fresher copy was not heard.
    SiblingUnheard {
        /// The replica.
        sibling: NodeId,
    },
    /// Too few primaries see the candidate as a replica: a vote would be denied.
    RoleNotSeen {
        /// The candidate.
        replica: NodeId,
        /// How many see it.
        seen_by: usize,
        /// Of how many.
        of: usize,
    },
    /// The candidate was asked to become the primary.
    Promotion {
        /// The candidate.
        replica: NodeId,
    },
    /// One that leaves gave its slots away a moment ago, and tells clients who has them now.
    Drains {
        /// It.
        node: NodeId,
        /// For how long it does, in milliseconds.
        for_ms: u64,
    },
    /// A dead primary is given time to come back with its file.
    RestartGrace {
        /// Its server.
        server: ServerName,
        /// For how long yet, in milliseconds.
        left_ms: u64,
        /// What its file alone may have.
        has: OnlyOnDisk,
    },
    /// Views do not agree yet.
    Views {
        /// Whose.
        speaker: NodeId,
        /// About whom.
        about: NodeId,
    },
    /// Others had forgotten a node, and may drop it again.
    Forgotten {
        /// Which.
        node: NodeId,
    },
    /// A node does not serve yet (`cluster_state:fail`).
    StateNotOk {
        /// Which.
        node: NodeId,
    },
    /// A replica has no full copy yet.
    ReplicaCatchUp {
        /// Which.
        node: NodeId,
        /// How far it is behind, in bytes, if known.
        lag_bytes: Option<u64>,
    },
    /// A replica's full copy begins again and again.
    RepeatedCopy(RepeatedCopy),
    /// A node's version can't read all that its primary's writes.
    CannotCopy {
        /// The node.
        node: NodeId,
        /// Its primary, or the one it was to copy.
        primary: NodeId,
    },
    /// A replica copies from an address that is not its primary's, and can't be told better yet.
    CopiesElsewhere {
        /// Which.
        node: NodeId,
        /// Its primary.
        primary: NodeId,
        /// From where.
        from: Address,
        /// How many keys it holds, where its primary has none: following it again would drop them.
        drops: Option<u64>,
    },
    /// A shard has fewer replicas than wanted, and there is no free node.
    ReplicaMissing {
        /// Its primary.
        primary: NodeId,
        /// How many it has.
        have: u16,
        /// How many it needs.
        want: u16,
    },
    /// A shard lacks a replica, and gets one of another shard once that keeps a copy without it.
    Lend {
        /// The replica that will go.
        replica: NodeId,
        /// The primary that lacks one.
        primary: NodeId,
    },
    /// A replica shares a place with another copy of its shard, or a place holds too many primaries: a replica moves, or
    /// takes its primary's role, once all has been at rest for a while.
    Spread(Spread),
    /// An open slot whose keys could not be counted at both ends, so that its direction is not known.
    OpenSlot {
        /// The slot.
        slot: Slot,
        /// The node that shows it open.
        node: NodeId,
    },
    /// A slot is half moved, and the rest of its keys can't go on to the node that is to have them.
    OpenSlotHeld {
        /// The slot.
        slot: Slot,
        /// Every reason.
        why: Vec<NoMove>,
    },
    /// A primary holds keys of slots that it does not own: they go to the owners, as far as those are there.
    StrayKeys {
        /// Which.
        node: NodeId,
        /// How many, of all databases.
        keys: u64,
        /// Of which slots.
        slots: SlotSet,
        /// Every reason why some of them can't go now.
        why: Vec<NoMove>,
    },
    /// There are more or fewer shards than declared.
    ShardsDiffer {
        /// How many there are.
        have: u16,
        /// How many are declared.
        want: u16,
    },
    /// New shards are declared, and there are too few free nodes for them and their replicas.
    NodesMissing {
        /// How many there are.
        have: usize,
        /// How many it needs.
        want: usize,
    },
    /// Slots have to move, or are moving.
    Moves {
        /// How many are left.
        slots_left: u32,
        /// Every reason why some of them wait; none while all goes on.
        why: Vec<NoMove>,
    },
    /// A server is too many for the declared shape, and stays for now.
    Surplus {
        /// Which.
        server: ServerName,
        /// Every reason.
        why: Vec<NoRemove>,
    },
    /// What was asked for can't be done yet; the texts say why.
    Request {
        /// Every reason.
        why: Vec<String>,
    },
}

impl Waiting {
    /// Whether only a person can end this wait. The rest ends by itself.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::DataLost
            | Self::ShardLost { .. }
            | Self::Uncovered { .. }
            | Self::KeysUnclaimed { .. }
            | Self::Foreign { .. }
            | Self::DuplicateId(_)
            | Self::StartHeld { .. }
            | Self::DirectoryUnread { .. }
            | Self::TableRefused { .. }
            | Self::DataRefused { .. }
            | Self::CannotCopy { .. }
            | Self::ReplicaMissing { .. }
            | Self::ServersMissing { .. }
            | Self::IdLost { .. }
            | Self::AnnouncedUnheard { .. }
            | Self::NodesMissing { .. }
            | Self::ShardsDiffer { .. } => true,
            Self::DeathUnproved { why, .. } => why.needs_a_person(),
            Self::Moves { why, .. }
            | Self::OpenSlotHeld { why, .. }
            | Self::StrayKeys { why, .. } => why.iter().any(NoMove::needs_a_person),
            Self::CopiesElsewhere { drops, .. } => drops.is_some(),
            Self::Surplus { why, .. } => why.iter().any(NoRemove::needs_a_person),
            Self::Contested { .. }
            | Self::MajorityLost(_)
            | Self::KeysUncounted { .. }
            | Self::ServerUnheard { .. }
            | Self::Stranded { .. }
            | Self::PlaceFollowed { .. }
            | Self::PrimarySilent { .. }
            | Self::NoCandidate { .. }
            | Self::SiblingUnheard { .. }
            | Self::RoleNotSeen { .. }
            | Self::Promotion { .. }
            | Self::RestartGrace { .. }
            | Self::Drains { .. }
            | Self::StartsAgain { .. }
            | Self::Views { .. }
            | Self::Forgotten { .. }
            | Self::StateNotOk { .. }
            | Self::ReplicaCatchUp { .. }
            | Self::RepeatedCopy(_)
            | Self::Lend { .. }
            | Self::Spread { .. }
            | Self::OpenSlot { .. }
            | Self::Request { .. } => false,
        }
    }
}

impl fmt::Display for Waiting {
    /// Nodes are written short (`{:?}`): the whole id is in the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataLost => f.write_str(text::DATA_LOST),
            Self::ShardLost { primary, slots } => f.write_str(&text::shard_lost(*primary, slots)),
            Self::Uncovered { slots } => write!(f, "nobody owns slots {slots}"),
            Self::KeysUncounted { node, slots } => f.write_str(&text::uncounted(*node, slots)),
            Self::KeysUnclaimed { nodes, slots } => f.write_str(&text::unclaimed(nodes, slots)),
            Self::Contested { slots } => write!(f, "two nodes claim slots {slots}"),
            Self::MajorityLost(lost) => f.write_str(&text::majority_lost(lost)),
            Self::Foreign { server, what } => write!(f, "{server} does not belong here: {what}"),
            Self::DuplicateId(duplicate) => f.write_str(&text::doubled(duplicate)),
            Self::ServersMissing { have, want } => write!(f, "{have} of {want} servers are there"),
            Self::AnnouncedUnheard { server, node, why } => {
                f.write_str(&text::announced_unheard(server, *node, why))
            }
            Self::ServerUnheard { server, why } => write!(f, "{server} is not heard: {why}"),
            Self::Stranded { server, host, why } => f.write_str(&text::stranded(server, host, why)),
            Self::StartHeld { server } => f.write_str(&text::start_held(server)),
            Self::DirectoryUnread { server, why } => write!(f, "{server} is not started: {why}"),
            Self::StartsAgain { server, rest } => f.write_str(&text::starts_again(server, rest)),
            Self::DataRefused { server, failure } => {
                f.write_str(&text::data_refused(server, failure.as_deref()))
            }
            Self::TableRefused { server } => write!(f, "{server} refuses its own table of nodes"),
            Self::PlaceFollowed { server, by } => f.write_str(&text::place_followed(server, by)),
            Self::PrimarySilent { node } => f.write_str(&text::primary_silent(*node)),
            Self::IdLost { node } => f.write_str(&text::id_lost(*node)),
            Self::DeathUnproved { node, why } => f.write_str(&text::death_unproved(*node, why)),
            Self::NoCandidate { primary } => f.write_str(&text::no_candidate(*primary)),
            Self::SiblingUnheard { sibling } => f.write_str(&text::sibling_unheard(*sibling)),
            Self::RoleNotSeen {
                replica,
                seen_by,
                of,
            } => f.write_str(&text::role_not_seen(*replica, *seen_by, *of)),
            Self::Promotion { replica } => write!(f, "{replica:?} is becoming the primary"),
            Self::RestartGrace {
                server,
                left_ms,
                has,
            } => f.write_str(&text::restart_grace(server, *left_ms, *has)),
            Self::Drains { node, for_ms } => f.write_str(&text::drains(*node, *for_ms)),
            Self::Forgotten { node } => f.write_str(&text::forgotten(*node)),
            Self::Views { speaker, about } => write!(f, "{speaker:?} has no news of {about:?} yet"),
            Self::StateNotOk { node } => write!(f, "{node:?} does not serve yet"),
            Self::ReplicaCatchUp { node, lag_bytes } => {
                write!(f, "replica {node:?} {}", text::behind(*lag_bytes))
            }
            Self::RepeatedCopy(again) => write!(f, "{again}; raise it: {}", again.remedy()),
            Self::CannotCopy { node, primary } => f.write_str(&text::cannot_copy(*node, *primary)),
            Self::CopiesElsewhere {
                node,
                primary,
                from,
                drops,
            } => f.write_str(&text::copies_elsewhere(*node, *primary, from, *drops)),
            Self::ReplicaMissing {
                primary,
                have,
                want,
            } => f.write_str(&text::replica_missing(*primary, *have, *want)),
            Self::Lend { replica, primary } => f.write_str(&text::lend(*replica, *primary)),
            Self::Spread(spread) => write!(f, "{spread}"),
            Self::OpenSlot { slot, node } => f.write_str(&text::open_slot(*slot, *node)),
            Self::OpenSlotHeld { slot, why } => f.write_str(&text::open_slot_held(*slot, why)),
            Self::StrayKeys {
                node,
                keys,
                slots,
                why,
            } => f.write_str(&text::stray_keys(*node, *keys, slots, why)),
            Self::ShardsDiffer { have, want } => write!(f, "{have} shards, but {want} declared"),
            Self::NodesMissing { have, want } => f.write_str(&text::nodes_missing(*have, *want)),
            Self::Moves { slots_left, why } => f.write_str(&text::moves(*slots_left, why)),
            Self::Surplus { server, why } => f.write_str(&text::surplus(server, why)),
            Self::Request { why } => f.write_str(&why.join("; ")),
        }
    }
}
