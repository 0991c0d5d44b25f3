//! What the linter finds.

use std::fmt;

use shardwright_topology::{NodeId, ServerName, Slot, SlotSet};

/// How bad a violation is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Odd, but harmless.
    Note,
    /// The plan must not be executed.
    Fatal,
}

/// What a plan would break.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ViolationKind {
    /// It acts at a node that was not heard.
    ActsUnheard,
    /// It gives out slots that have an owner.
    SlotsOwned {
        /// Which.
        slots: SlotSet,
    },
    /// It gives one slot to two nodes.
    SlotsTwice {
        /// Which.
        slots: SlotSet,
    },
    /// It promotes past a primary that lives, or is not proved dead.
    PrimaryNotDead {
        /// The primary.
        primary: NodeId,
    },
    /// It promotes a node that is not a replica of that primary.
    NotItsReplica {
        /// The node.
        node: NodeId,
    },
    /// It promotes two replicas of one primary.
    TwoHeirs {
        /// The primary.
        primary: NodeId,
    },
    /// It promotes a replica that is not known to hold its primary's data.
    NoCopy {
        /// The replica.
        replica: NodeId,
    },
    /// It makes a node that owns slots, or holds keys that are no copy, a replica, or resets it.
    WouldLoseData {
        /// The node.
        node: NodeId,
    },
    /// It makes a node a replica of itself or of a replica.
    BadPrimary {
        /// The node that would be copied.
        primary: NodeId,
    },
    /// It makes a node a replica of one whose copy its version can't read.
    CannotCopy {
        /// The node.
        node: NodeId,
        /// The node that would be copied.
        primary: NodeId,
    },
    /// It lets the engine elect a node that has just begun to copy a primary with keys, or whose primary is back.
    ElectsItself {
        /// The node.
        node: NodeId,
    },
    /// It makes nodes forget one that lives and was not asked to leave, or that owns slots.
    ForgetsTheLiving {
        /// The node.
        node: NodeId,
    },
    /// It sends a MEET to an address at which another node, or none, was heard.
    MeetsUnproved {
        /// The node.
        node: NodeId,
    },
    /// It starts a server that is not proved dead.
    StartsRunning {
        /// The server.
        server: ServerName,
    },
    /// It moves slots from a node that does not own them by everyone's word.
    MovesUnowned {
        /// The node.
        from: NodeId,
        /// The slots.
        slots: SlotSet,
    },
    /// It moves slots while some are open or not served, or while something else is done.
    MovesInDisorder,
    /// It copies functions from a node without slots, or over those of one that has some.
    FunctionsToUnfit {
        /// The receiver.
        node: NodeId,
    },
    /// It copies a library of functions that not every owner of slots has with that code.
    FunctionsDiffer {
        /// The library.
        library: String,
    },
    /// It gives the first slots to a node that lacks a library which every owner of slots has with the same code.
    FunctionsLack {
        /// The receiver.
        node: NodeId,
        /// The library.
        library: String,
    },
    /// It moves slots though a person paused that.
    MovesPaused,
    /// It moves keys to a node with a memory limit, and nobody measured what they take.
    MovesUnmeasured {
        /// The receiver.
        node: NodeId,
        /// The slots that have no size.
        slots: SlotSet,
    },
    /// It moves keys to a node that has no room for them below its memory limit, in bytes.
    MovesWithoutRoom {
        /// The receiver.
        node: NodeId,
        /// What this plan brings there.
        comes: u64,
        /// What it has left.
        left: u64,
    },
    /// It moves slots to a node that is no primary of this cluster, lacks replicas, gives slots away, or goes.
    MovesToUnfit {
        /// The node.
        node: NodeId,
    },
    /// It moves slots from or to a primary whose replica may be taking its place.
    MovesWhilePassed {
        /// The primary.
        node: NodeId,
        /// The replica.
        by: NodeId,
    },
    /// It moves slots from a primary that holds, or may hold, keys of others' slots, or to one that holds keys of them.
    MovesBesideStrayKeys {
        /// Which.
        node: NodeId,
    },
    /// It moves keys to a node that does not own their slot, or overwrites keys of one that is not being given away.
    MovesKeysAstray {
        /// The slot.
        slot: Slot,
        /// The receiver.
        to: NodeId,
    },
    /// It tells a source of a new owner while the source holds keys of the slot.
    AssignsAwayKeys {
        /// The slot.
        slot: Slot,
    },
    /// It records as formed what has uncovered slots.
    FormedUncovered,
    /// It is about a node whose id two processes give: it is not known which of the two would be reached, copied,
    /// promoted past or forgotten.
    ActsOnDuplicate {
        /// The id.
        node: NodeId,
    },
    /// It asks for votes though no majority of the primaries sees the node as a replica of that primary.
    NoMajority {
        /// The replica.
        replica: NodeId,
    },
    /// It makes one node a replica of two primaries.
    TwoPrimaries {
        /// The node.
        node: NodeId,
    },
    /// It starts a server that would come back as a primary without its newest data, or with who knows what.
    StartsOldPrimary {
        /// The server.
        server: ServerName,
    },
    /// It starts a server without data at an address that others may copy from.
    TakesPlace {
        /// The server.
        server: ServerName,
    },
    /// It sets a directory aside that its server did not refuse, or that may hold the last copy of some slots.
    SetsDataAside {
        /// The server.
        server: ServerName,
    },
    /// It gives up a volume that may be the last copy of something, or whose host is not away for long enough.
    GivesUpVolume {
        /// The server.
        server: ServerName,
    },
    /// It takes a server away that is wanted, is not the last, or is not known to be nothing.
    TakesAway {
        /// The server.
        server: ServerName,
    },
    /// It makes a server anew that may live, or would be made just so again.
    ReplacesLiving {
        /// The server.
        server: ServerName,
    },
    /// It gives out slots of a living cluster while it is not known who holds keys of them.
    GivesUpData {
        /// Which.
        slots: SlotSet,
    },
    /// It gives out slots of which another node holds keys.
    GivesPastHolder {
        /// Which.
        slots: SlotSet,
    },
    /// It takes the last replica in sync from a primary that lives, and not in exchange for a better placed one.
    BaresShard {
        /// The primary.
        primary: NodeId,
    },
    /// It resets a node that was not asked to leave, and is not known to be needless.
    ResetsUnasked {
        /// The node.
        node: NodeId,
    },
    /// It changes roles to keep primaries apart where none are too many, where that makes another host the fullest, where
    /// it places copies worse, or while not all is at rest.
    CrowdsPrimaries {
        /// The replica that would become a primary.
        replica: NodeId,
    },
}

/// One finding: where, and what.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Violation {
    /// How bad.
    pub severity: Severity,
    /// The step's place in the plan, from 0.
    pub step: usize,
    /// What.
    pub kind: ViolationKind,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ViolationKind as Kind;
        write!(f, "step {}: ", self.step + 1)?;
        match &self.kind {
            Kind::ActsUnheard => f.write_str("acts at a node that was not heard"),
            Kind::SlotsOwned { slots } => write!(f, "gives out slots {slots}, which have an owner"),
            Kind::SlotsTwice { slots } => write!(f, "gives slots {slots} to two nodes"),
            Kind::PrimaryNotDead { primary } => {
                write!(f, "promotes past {}, not proved dead", primary.short())
            }
            Kind::NotItsReplica { node } => {
                write!(f, "promotes {}, no replica of that primary", node.short())
            }
            Kind::NoCopy { replica } => {
                let id = replica.short();
                write!(f, "promotes {id}, not known to hold its primary's data")
            }
            Kind::TwoHeirs { primary } => write!(f, "promotes two replicas of {}", primary.short()),
            Kind::WouldLoseData { node } => write!(f, "would drop data of {}", node.short()),
            Kind::BadPrimary { primary } => write!(f, "{} can't be copied", primary.short()),
            Kind::CannotCopy { node, primary } => {
                write!(f, "{node:?} can't read what {primary:?} writes")
            }
            Kind::ElectsItself { node } => {
                write!(
                    f,
                    "lets {node:?} take its primary's place by itself while it begins a copy, or while its primary is back"
                )
            }
            Kind::ForgetsTheLiving { node } => {
                write!(f, "forgets {}, which lives or owns slots", node.short())
            }
            Kind::MeetsUnproved { node } => {
                write!(f, "greets {} where it was not heard", node.short())
            }
            Kind::StartsRunning { server } => write!(f, "starts {server}, not proved dead"),
            Kind::AssignsAwayKeys { slot } => f.write_str(&away_from_keys(*slot)),
            Kind::MovesUnowned { from, slots } => f.write_str(&unowned(*from, slots)),
            Kind::MovesPaused => f.write_str("moves slots though that is paused"),
            Kind::MovesInDisorder => f.write_str("moves slots while not all is at rest"),
            Kind::FunctionsToUnfit { node } => f.write_str(&functions_to_unfit(*node)),
            Kind::FunctionsDiffer { library } => f.write_str(&functions_differ(library)),
            Kind::FunctionsLack { node, library } => f.write_str(&functions_lack(*node, library)),
            Kind::MovesUnmeasured { node, slots } => f.write_str(&unmeasured(*node, slots)),
            Kind::MovesWithoutRoom { node, comes, left } => {
                f.write_str(&without_room(*node, *comes, *left))
            }
            Kind::MovesToUnfit { node } => {
                write!(f, "moves slots to {node:?}, which must get none now")
            }
            Kind::MovesWhilePassed { node, by } => f.write_str(&while_passed(*node, *by)),
            Kind::MovesBesideStrayKeys { node } => f.write_str(&beside_strays(*node)),
            Kind::MovesKeysAstray { slot, to } => f.write_str(&keys_astray(*slot, *to)),
            Kind::FormedUncovered => f.write_str("records as formed what has uncovered slots"),
            Kind::ActsOnDuplicate { node } => {
                write!(f, "is about {node:?}, as which two processes answer")
            }
            Kind::NoMajority { replica } => {
                write!(f, "asks for votes for {replica:?}, which would be denied")
            }
            Kind::TwoPrimaries { node } => write!(f, "gives {node:?} two primaries"),
            kind @ (Kind::StartsOldPrimary { server }
            | Kind::TakesPlace { server }
            | Kind::SetsDataAside { server }
            | Kind::GivesUpVolume { server }
            | Kind::ReplacesLiving { server }
            | Kind::TakesAway { server }) => f.write_str(&of_server(kind, server)),
            Kind::GivesUpData { slots } => f.write_str(&unasked(slots)),
            Kind::GivesPastHolder { slots } => {
                write!(f, "gives out slots {slots}, whose keys another node holds")
            }
            Kind::BaresShard { primary } => {
                write!(f, "takes the last replica in sync from {primary:?}")
            }
            Kind::ResetsUnasked { node } => {
                write!(f, "resets {node:?}, which nobody asked to leave")
            }
            Kind::CrowdsPrimaries { replica } => f.write_str(&crowds(*replica)),
        }
    }
}

fn of_server(kind: &ViolationKind, server: &ServerName) -> String {
    use ViolationKind as Kind;
    match kind {
        Kind::StartsOldPrimary { .. } => {
            format!("starts {server} as a primary without its newest data")
        }
        Kind::TakesPlace { .. } => {
            format!("starts {server} without data where others may copy it")
        }
        Kind::SetsDataAside { .. } => {
            format!("sets the data of {server} aside, which may be needed")
        }
        Kind::GivesUpVolume { .. } => {
            format!("gives up the volume of {server}, which may be needed")
        }
        Kind::ReplacesLiving { .. } => {
            format!("makes {server} anew, which may live or would be made just so")
        }
        _ => format!("takes {server} away, which may be needed"),
    }
}

fn while_passed(node: NodeId, by: NodeId) -> String {
    format!("moves slots at {node:?}, whose place {by:?} may be taking")
}

fn beside_strays(node: NodeId) -> String {
    format!("moves slots at {node:?}, which may hold keys of slots that it does not own")
}

fn keys_astray(slot: Slot, to: NodeId) -> String {
    format!("moves keys of slot {slot} to {to:?}, which may not take them")
}

fn away_from_keys(slot: Slot) -> String {
    format!("gives slot {slot} away from a node that holds keys of it")
}

fn unmeasured(node: NodeId, slots: &SlotSet) -> String {
    format!(
        "moves keys of slots {slots} to {node:?}, which has a memory limit, and their size is not known"
    )
}

fn without_room(node: NodeId, comes: u64, left: u64) -> String {
    format!("moves {comes} bytes to {node:?}, which has {left} left below its memory limit")
}

fn unasked(slots: &SlotSet) -> String {
    format!("gives out slots {slots}, whose keys may be at a node that was not asked")
}

fn unowned(from: NodeId, slots: &SlotSet) -> String {
    format!("moves slots {slots} from {from:?}, which may not own them")
}

fn crowds(replica: NodeId) -> String {
    format!("makes {replica:?} a primary for a better place, where it is none")
}

fn functions_to_unfit(node: NodeId) -> String {
    format!("it copies functions to {}, which serves", node.short())
}

fn functions_differ(library: &str) -> String {
    format!("it copies library {library}, in which the primaries differ")
}

fn functions_lack(node: NodeId, library: &str) -> String {
    let node = node.short();
    format!("gives slots to {node}, which lacks library {library}")
}
