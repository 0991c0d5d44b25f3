//! What is to be done, so exactly that the executor has no choice left.

use std::collections::BTreeSet;
use std::fmt;

use shardwright_topology::{
    Address, ConfigEpoch, FunctionLibraries, NodeId, ServerName, Slot, SlotSet,
};

use crate::Crowded;
use crate::evidence::{Blank, Dead, Gone, LiveAt, RoleSeen, Unburdened};
use crate::functions::{given, names};

/// One thing to do, at one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Start a server's process.
    StartServer {
        /// Which.
        server: ServerName,
    },
    /// Set a dead server's data directory aside, and start it as a new node. Nothing is deleted.
    StartAfresh {
        /// Which.
        server: ServerName,
    },
    /// Make a server anew, on another host than the one that its volume ties it to. The volume is given up.
    Recreate {
        /// Which.
        server: ServerName,
        /// The host that is away.
        host: String,
    },
    /// Make a server anew that does not start as it was made, with what is on its disk.
    Replace {
        /// Which.
        server: ServerName,
        /// The revision that it was made from.
        made_from: String,
    },
    /// Take a server away that is nothing any more, with what is on its disk.
    RemoveServer {
        /// Which.
        server: ServerName,
    },
    /// Store the fact that this cluster was formed.
    RecordFormed,
    /// Give a blank node its first config epoch, so that epochs need not collide.
    SetConfigEpoch {
        /// The node.
        blank: Blank,
        /// Its epoch.
        epoch: ConfigEpoch,
    },
    /// Give slots that nobody owns to a node.
    AddSlots {
        /// The new owner.
        node: NodeId,
        /// The slots.
        slots: SlotSet,
    },
    /// Tell one node where another lives.
    Meet {
        /// Who is told.
        teller: NodeId,
        /// About whom, and where it was heard.
        target: LiveAt,
    },
    /// Make a node a replica.
    Replicate {
        /// The node.
        node: Unburdened,
        /// Its primary.
        primary: NodeId,
    },
    /// Let a replica take the place of its primary by itself, or not (`cluster-replica-no-failover`): the engine does not
    /// ask whether its first copy is done.
    SetElectable {
        /// The replica.
        node: NodeId,
        /// Whether it may.
        electable: bool,
    },
    /// Change the roles of a live primary and its replica, in sync.
    Switchover {
        /// The replica.
        replica: NodeId,
        /// The primary.
        primary: NodeId,
    },
    /// Promote a replica without its dead primary, by vote.
    Failover {
        /// The proof that the primary is dead.
        dead: Dead,
        /// The proof that the vote can be won, which names the replica.
        seen: RoleSeen,
    },
    /// Promote a replica without its dead primary and without votes.
    Takeover {
        /// The replica.
        replica: NodeId,
        /// The proof that the primary is dead.
        dead: Dead,
    },
    /// Make one node forget another.
    Forget {
        /// Who forgets.
        teller: NodeId,
        /// The proof that the forgotten one will not return.
        gone: Gone,
    },
    /// Make a node leave: it forgets everyone and takes a new id.
    Reset {
        /// The proof that nothing is lost.
        node: Unburdened,
    },
    /// Close an open slot where it is: nothing moves.
    CloseSlot {
        /// At which node.
        node: NodeId,
        /// The slot.
        slot: Slot,
    },
    /// Tell a node who owns a slot.
    AssignSlot {
        /// Who is told.
        node: NodeId,
        /// The slot.
        slot: Slot,
        /// Its owner.
        owner: NodeId,
    },
    /// Let a node take an epoch above all it knows, so that everyone believes what it claims.
    RaiseEpoch {
        /// The node.
        node: NodeId,
    },
    /// Move some keys of an open slot. Where an end is not open in this direction, it is opened first.
    MoveKeys {
        /// From here.
        from: NodeId,
        /// To here.
        to: LiveAt,
        /// The slot.
        slot: Slot,
        /// At most so many.
        keys_max: u32,
        /// Whether the source's value wins over one at the target. Otherwise such a key stops the move.
        replace: bool,
    },
    /// Give a primary without slots libraries of functions of another: they do not move with slots.
    CopyFunctions {
        /// Whose.
        from: NodeId,
        /// To whom.
        to: NodeId,
        /// Which ones, and the code that all owners of slots have: what has another by now is not copied.
        libraries: FunctionLibraries,
    },
    /// Move slots with their keys to another primary. It may stop at any time: the next plan goes on.
    MoveSlots {
        /// From their owner.
        from: NodeId,
        /// To here.
        to: LiveAt,
        /// These.
        slots: SlotSet,
    },
}

impl Action {
    /// The server that this is about, where it is done at no node.
    pub fn server(&self) -> Option<&ServerName> {
        let (Self::StartServer { server }
        | Self::StartAfresh { server }
        | Self::Recreate { server, .. }
        | Self::Replace { server, .. }
        | Self::RemoveServer { server }) = self
        else {
            return None;
        };
        Some(server)
    }

    /// Every node that this names: at which it is done, and about which.
    pub fn nodes(&self) -> Vec<NodeId> {
        let about = match self {
            Self::StartServer { .. }
            | Self::StartAfresh { .. }
            | Self::Recreate { .. }
            | Self::Replace { .. }
            | Self::RemoveServer { .. }
            | Self::RecordFormed
            | Self::SetConfigEpoch { .. }
            | Self::AddSlots { .. }
            | Self::Reset { .. }
            | Self::CloseSlot { .. }
            | Self::SetElectable { .. }
            | Self::RaiseEpoch { .. } => None,
            Self::Meet { target, .. } => Some(target.node()),
            Self::Replicate { primary, .. } | Self::Switchover { primary, .. } => Some(*primary),
            Self::Failover { dead, .. } | Self::Takeover { dead, .. } => Some(dead.node()),
            Self::Forget { gone, .. } => Some(gone.node()),
            Self::AssignSlot { owner, .. } => Some(*owner),
            Self::CopyFunctions { from, .. } => Some(*from),
            Self::MoveKeys { to, .. } | Self::MoveSlots { to, .. } => Some(to.node()),
        };
        self.at().into_iter().chain(about).collect()
    }

    /// The node at which this is done, if it is done at a node.
    pub fn at(&self) -> Option<NodeId> {
        match self {
            Self::StartServer { .. }
            | Self::StartAfresh { .. }
            | Self::Recreate { .. }
            | Self::Replace { .. }
            | Self::RemoveServer { .. }
            | Self::RecordFormed => None,
            Self::SetConfigEpoch { blank, .. } => Some(blank.node()),
            Self::AddSlots { node, .. }
            | Self::CloseSlot { node, .. }
            | Self::RaiseEpoch { node }
            | Self::SetElectable { node, .. }
            | Self::CopyFunctions { to: node, .. }
            | Self::AssignSlot { node, .. } => Some(*node),
            Self::Meet { teller, .. } | Self::Forget { teller, .. } => Some(*teller),
            Self::Replicate { node, .. } | Self::Reset { node } => Some(node.node()),
            Self::Switchover { replica, .. } | Self::Takeover { replica, .. } => Some(*replica),
            Self::Failover { seen, .. } => Some(seen.replica()),
            Self::MoveKeys { from, .. } | Self::MoveSlots { from, .. } => Some(*from),
        }
    }
}

impl Action {
    /// Whose libraries of functions go to whom, and which ones. Nothing for any other action.
    fn fmt_copied_functions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::CopyFunctions {
            from,
            to,
            libraries,
        } = self
        else {
            return Ok(());
        };
        let (from, to) = (from.short(), to.short());
        let libraries = names(libraries.keys());
        write!(
            f,
            "copy the functions of {from} to {to} (libraries {libraries})"
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartServer { server } => write!(f, "start {server}"),
            Self::StartAfresh { server } => write!(f, "start {server} as a new node"),
            Self::Recreate { server, .. } => write!(f, "make {server} anew without its volume"),
            Self::Replace { server, .. } => write!(f, "make {server} anew"),
            Self::RemoveServer { server } => write!(f, "take {server} away"),
            Self::RecordFormed => f.write_str("record that the cluster is formed"),
            Self::SetConfigEpoch { blank, epoch } => {
                write!(f, "give {} config epoch {epoch}", blank.node().short())
            }
            Self::AddSlots { node, slots } => write!(f, "give slots {slots} to {}", node.short()),
            Self::Meet { teller, target } => {
                let (teller, id) = (teller.short(), target.node().short());
                write!(f, "tell {teller} that {id} is at {}", target.address())
            }
            Self::Replicate { node, primary } => {
                let (node, primary) = (node.node().short(), primary.short());
                write!(f, "make {node} a replica of {primary}")
            }
            Self::SetElectable { node, electable } => {
                let may = if *electable { "may" } else { "may not" };
                write!(
                    f,
                    "set that {} {may} take its primary's place by itself",
                    node.short()
                )
            }
            Self::Switchover { replica, primary } => {
                let (replica, primary) = (replica.short(), primary.short());
                write!(f, "switch over from {primary} to its replica {replica}")
            }
            Self::Failover { dead, seen } => {
                let (dead, replica) = (dead.node().short(), seen.replica().short());
                write!(f, "fail over from dead {dead} to its replica {replica}")
            }
            Self::Takeover { replica, dead } => {
                let (replica, dead) = (replica.short(), dead.node().short());
                write!(f, "let {replica} take over from dead {dead} without votes")
            }
            Self::Forget { teller, gone } => {
                write!(f, "make {} forget {}", teller.short(), gone.node().short())
            }
            Self::Reset { node } => write!(f, "reset {}", node.node().short()),
            Self::CloseSlot { node, slot } => write!(f, "close slot {slot} at {}", node.short()),
            Self::AssignSlot { node, slot, owner } => {
                write!(
                    f,
                    "tell {} that slot {slot} belongs to {}",
                    node.short(),
                    owner.short()
                )
            }
            Self::RaiseEpoch { node } => write!(f, "let {} raise its epoch", node.short()),
            Self::MoveKeys {
                from,
                to,
                slot,
                keys_max,
                ..
            } => {
                let what = format_args!("up to {keys_max} keys of slot {slot}");
                moves(f, what, *from, to)
            }
            Self::CopyFunctions { .. } => self.fmt_copied_functions(f),
            Self::MoveSlots { from, to, slots } => {
                moves(f, format_args!("slots {}", slots.counted()), *from, to)
            }
        }
    }
}

fn moves(
    f: &mut fmt::Formatter<'_>,
    what: fmt::Arguments<'_>,
    from: NodeId,
    to: &LiveAt,
) -> fmt::Result {
    write!(
        f,
        "move {what} from {} to {}",
        from.short(),
        to.node().short()
    )
}

/// What a step assumed. The executor reads it again right before the command, and refuses if the world moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Precondition {
    /// At this address this node answers (`CLUSTER MYID` there).
    LivesAt {
        /// The node.
        node: NodeId,
        /// Its address.
        address: Address,
    },
    /// The node has no peer, no slot and no key.
    IsBlank {
        /// The node.
        node: NodeId,
    },
    /// The node owns no slot, and holds no key unless it is a replica.
    IsUnburdened {
        /// The node.
        node: NodeId,
    },
    /// The node answers as a primary that owns slots.
    OwnsSlots {
        /// The node.
        node: NodeId,
    },
    /// The node answers as a primary, with slots or without.
    IsPrimary {
        /// The node.
        node: NodeId,
    },
    /// The node is a replica of this primary.
    IsReplicaOf {
        /// The node.
        node: NodeId,
        /// Its primary.
        primary: NodeId,
    },
    /// The node holds no key of the slot.
    HoldsNoKeyOf {
        /// The node.
        node: NodeId,
        /// The slot.
        slot: Slot,
    },
    /// The node holds no key of any slot that it does not own.
    HoldsNoStrayKey {
        /// The node.
        node: NodeId,
    },
    /// The node's table gives none of these slots to anyone else.
    SlotsFree {
        /// The node.
        node: NodeId,
        /// The slots.
        slots: SlotSet,
    },
}

/// Why a step is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The cluster is being formed.
    Forming,
    /// All slots of the new cluster have owners.
    AllSlotsGiven,
    /// The server's process is gone, and may be started.
    ServerDown,
    /// Only this server's disk still has its slots.
    OnlyCopyOnDisk,
    /// The policy gives the restart its grace.
    RestartFirst,
    /// It was taking slots in, and keys that moved may be on its disk alone.
    RestartImporter,
    /// Its replica had no link to it, and what was written meanwhile may be on its disk alone.
    RestartAhead,
    /// A node does not know another of its cluster.
    NotKnown,
    /// A node has another at a wrong address.
    AddressChanged,
    /// A node believes an old role or old slots of another.
    OldBelief,
    /// A primary died. `tail_bytes_max` is how much of its stream the replica lacks at most, if that is known.
    PrimaryDead {
        /// Bytes of the stream that may be lost.
        tail_bytes_max: Option<u64>,
    },
    /// A primary died, and no replica is known to have a copy of its data: this one has so many keys.
    NoCopyLeft {
        /// How many.
        keys: u64,
    },
    /// The vote did not come in time.
    VoteTooSlow,
    /// A shard has too few replicas.
    ReplicaMissing,
    /// It begins to follow a primary that has keys, and has none of them yet.
    CopyBegins,
    /// Its primary is waited for, which may alone have what was written last.
    PrimaryComesFirst,
    /// Its primary is back, and is still held to have failed.
    PrimaryIsBack,
    /// It has its primary's data.
    CopyDone,
    /// A replica follows a node that owns no slots.
    WrongPrimary,
    /// A replica copies from an address that is not its primary's.
    CopiesElsewhere {
        /// From where.
        from: Address,
    },
    /// The node's directory was lost; another node lives at its server.
    NodeGone,
    /// The node lost its table of nodes: its server has its data, and speaks under another id.
    Returned,
    /// It has failed without a replica, and a person gave up what it held.
    DataGivenUp,
    /// It owns slots, and has no epoch of its own.
    NoEpoch,
    /// The slot's move was broken off before a key had moved.
    NothingMoved,
    /// The slot's keys have all moved.
    AllMoved,
    /// The slot's move was broken off halfway.
    HalfMoved,
    /// Nobody owns the slots, and it holds their keys.
    HoldsKeys,
    /// Nobody owns the slots, several nodes hold keys of them, and a person agreed that it is the one that holds most.
    HoldsMostKeys,
    /// Nobody owns the slots, and no node holds a key of them.
    NoKeys,
    /// The node holds keys of a slot that it does not own, where nobody reaches them.
    StrayKeys,
    /// The server refuses its table of nodes, and nothing in its directory is needed: others serve every slot.
    TableRefused,
    /// The server refuses the data on its disk, and nothing in its directory is needed: others serve every slot.
    DataRefused,
    /// The server's node would take slots from those who serve them, without its newest data; nothing in its directory
    /// is needed.
    ClaimsBetter,
    /// The primary's server was told to end: its role is handed over while it is still in sync.
    PrimaryLeaves,
    /// A replica shares its host or zone with another copy of its shard, or a host or zone holds too many primaries, and
    /// there is a better placement.
    Crowded(Crowded),
    /// The server's volume is on a host that is away for too long, and what it holds is held by others.
    HostAway {
        /// The host.
        host: String,
    },
    /// The server does not start as it was made, and would be made otherwise by now.
    OutdatedStart {
        /// Why it does not start.
        why: String,
    },
    /// The declared shape needs fewer servers.
    NotWanted,
    /// It is to get slots, and lacks libraries of functions that all owners of slots have.
    FunctionsLack {
        /// The libraries in which the owners of slots differ: it is not given them.
        left_out: BTreeSet<String>,
    },
    /// The declared shape needs one more shard.
    NewShard,
    /// The shard is not needed any more, or its primary was asked to leave.
    Drain,
    /// Some shards own more slots than others.
    Uneven,
    /// A person asked for it.
    Asked,
}

const DATA_REFUSED: &str =
    "it can't load the data on its disk, others serve every slot, and its directory is kept aside";

fn tail(bytes_max: Option<u64>) -> String {
    match bytes_max {
        None => "how much of its last writes is lost is not known".to_owned(),
        Some(0) => "the replica had all that was seen".to_owned(),
        Some(bytes) => format!("up to {bytes} bytes of its last writes may be lost"),
    }
}

fn no_copy_left(keys: u64) -> String {
    format!(
        "the primary died, and no copy of its data is known to be left: the {keys} keys of this replica take their place"
    )
}

fn outdated(why: &str) -> String {
    format!("it does not start as it was made, and would be made otherwise by now ({why})")
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Forming => "the cluster is being formed",
            Self::AllSlotsGiven => "every slot has an owner",
            Self::ServerDown => "its process is gone",
            Self::OnlyCopyOnDisk => "its process is gone, and only its disk still has its slots",
            Self::RestartFirst => "its process is gone, and the policy gives its restart a grace",
            Self::RestartImporter => {
                "its process is gone, it was taking slots in, and may alone have keys that moved"
            }
            Self::RestartAhead => {
                "its process is gone, and it may alone have what was written while its replica had no link"
            }
            Self::NotKnown => "it does not know it",
            Self::AddressChanged => "it has it at an old address",
            Self::OldBelief => "its role or slots changed",
            Self::PrimaryDead { tail_bytes_max } => {
                return write!(f, "the primary died; {}", tail(*tail_bytes_max));
            }
            Self::NoCopyLeft { keys } => return f.write_str(&no_copy_left(*keys)),
            Self::VoteTooSlow => "the primary died, and the vote did not come in time",
            Self::ReplicaMissing => "its shard has too few replicas",
            Self::CopyBegins => "it is about to copy another's data, and has none of it yet",
            Self::PrimaryComesFirst => {
                "its primary is waited for, and may alone have what was written last"
            }
            Self::PrimaryIsBack => "its primary is back, and is still held to have failed",
            Self::CopyDone => "it has a copy of its primary's data",
            Self::WrongPrimary => "it follows a node that owns no slots",
            Self::CopiesElsewhere { from } => {
                return write!(
                    f,
                    "it copies from {from}, which is not its primary's address"
                );
            }
            Self::NodeGone => "its directory was lost, and its server now runs another node",
            Self::Returned => {
                "it lost its table of nodes; its server has its data, and is taken in under its new id"
            }
            Self::DataGivenUp => {
                "it has failed, nobody has a copy of its data, and a person gave that up"
            }
            Self::NoEpoch => "it owns slots, and has no epoch of its own yet",
            Self::NothingMoved => "the slot's move was broken off before a key had moved",
            Self::AllMoved => "all keys of the slot have moved",
            Self::HalfMoved => "the slot's move was broken off halfway",
            Self::HoldsKeys => "nobody owns the slots, and it holds their keys",
            Self::HoldsMostKeys => {
                "nobody owns the slots, and of several nodes it holds most keys of them"
            }
            Self::NoKeys => "nobody owns the slots, and no node holds a key of them",
            Self::StrayKeys => {
                "it holds keys of a slot that is not its own, and nobody reaches them there"
            }
            Self::TableRefused => {
                "it refuses its own table of nodes, others serve every slot, and its directory is kept aside"
            }
            Self::DataRefused => DATA_REFUSED,
            Self::ClaimsBetter => {
                "it became a primary unheard, and would empty those who serve its slots now; its directory is kept aside"
            }
            Self::PrimaryLeaves => "the primary is being stopped",
            Self::Crowded(crowded) => return write!(f, "{crowded}"),
            Self::HostAway { host } => {
                return write!(
                    f,
                    "{host}, where its volume is, is away for too long, and others have its data"
                );
            }
            Self::OutdatedStart { why } => return f.write_str(&outdated(why)),
            Self::FunctionsLack { left_out } => return f.write_str(&given(left_out)),
            Self::NotWanted => "fewer servers are wanted",
            Self::NewShard => "one more shard is wanted",
            Self::Drain => "its shard gives up its slots",
            Self::Uneven => "some shards own more slots than others",
            Self::Asked => "it was asked for",
        };
        f.write_str(text)
    }
}

/// An action, why it is taken, and what it assumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// Why.
    pub because: Reason,
    /// What must still be so right before.
    pub requires: Vec<Precondition>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.because)
    }
}
