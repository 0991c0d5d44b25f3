//! Memory: what a server does at its limit, and what its slots take. And what is remembered of a node.

use crate::{Address, NodeId, SlotSet, Stream, Timestamp};

/// What a server does when it has reached its memory limit (`maxmemory-policy`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AtLimit {
    /// It refuses what would need more (`noeviction`): nothing is lost.
    Refuses,
    /// It deletes keys of its own choice: any other policy.
    Evicts,
}

/// By what the size of a slot is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SizedBy {
    /// The server told the memory of the slot (`CLUSTER SLOT-STATS`).
    Slot,
    /// All of its keys, or enough of them, were measured (`MEMORY USAGE`).
    Keys,
    /// Only how many keys it has is known: each is taken to be as large as the average of its server.
    Average,
}

/// What one node holds of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotSize {
    /// How many keys.
    pub keys: u64,
    /// How many bytes of memory they take together.
    pub bytes: u64,
    /// How many bytes the greatest of those takes that were measured; 0 where none was.
    pub largest: u64,
    /// By what that is known.
    pub by: SizedBy,
}

/// What a node held when every slot was last served by nodes that answered, and no unknown node was listed: what it is to
/// have again after nodes of another cluster took it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    /// The slots that it owned by its own word; none of a replica.
    pub slots: SlotSet,
    /// Its primary, if it was a replica.
    pub primary: Option<NodeId>,
    /// How many keys it had, of all databases.
    pub keys: u64,
    /// The stream that its data belonged to, if it told.
    pub stream: Option<Stream>,
}

/// A node of another cluster that nodes of ours listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetNode {
    /// Where it was listed last.
    pub address: Address,
    /// When it was listed last.
    pub last: Timestamp,
}
