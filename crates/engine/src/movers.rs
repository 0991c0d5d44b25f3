//! Moves slots with all their keys from one primary to another, while clients use them.
//!
//! * [`key_wise()`]: key by key with `MIGRATE`, on every version. Slots are open meanwhile, and
//!   clients are sent to and fro by `ASK`.
//! * [`native()`]: the engine's own move, on Valkey 9 and later ([`Feature::MigrateSlots`]).
//!
//! Redis 8.4 has a move of its own too (`CLUSTER MIGRATION IMPORT`). It is not used: it could
//! not be tried out, so such a server is served key by key.
//!
//! Neither decides what moves or how fast: the caller gives the slots and a [`Pace`]. Both may
//! run for several pairs at the same time. But no node may give and take **key by key** at the
//! same time: a server that waits in a `MIGRATE` takes nothing in, so two that give to each
//! other, or more in a circle, wait for each other until their time is over.
//!
//! [`Feature::MigrateSlots`]: crate::Feature::MigrateSlots

use std::time::Duration;

use shardwright_topology::{EngineKind, NodeId, Slot, SlotSet};
use tokio::sync::{Mutex, RwLock};

use crate::{Client, Credentials, Endpoint, Error};

mod bursts;
mod ends;
mod great;
mod key_wise;
mod native;
mod room;
mod traffic;

pub use great::{Bounds, bounds};
pub use key_wise::{key_wise, why_not_moved};
pub use native::native;
pub use room::Room;

/// The two ends of a move, and everyone who must hear of it.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The primary that gives.
    pub source: &'a Client,
    /// Another connection to it, by which the next keys are read while others move. It may be
    /// the same one: then bursts seem longer than they are.
    pub reader: &'a Client,
    /// A third one, which asks after each burst whether the source answers: whoever waited meanwhile
    /// is answered first. It may be one of the others: then the source seems slower than it is.
    pub probe: &'a Client,
    /// Its id.
    pub from: NodeId,
    /// The primary that takes.
    pub target: &'a Client,
    /// Its id.
    pub to: NodeId,
    /// What it is, if known.
    pub target_is: Option<EngineKind>,
    /// Where the *source* reaches the target.
    pub target_at: &'a Endpoint,
    /// Whom the source logs in as at the target.
    pub credentials: Option<&'a Credentials>,
    /// The other primaries of the cluster.
    pub others: &'a [Client],
    /// Whether the target's memory limit is kept: the move stops before the target would have to delete keys or refuse
    /// them, and as soon as it deletes any. Not for a target without a limit, or one that may exceed it.
    pub keeps_limit: bool,
    /// One lock for all pairs of a cluster. A receiver takes a new, greatest config epoch with
    /// its slots; two that do so at once could take the same one.
    pub finishing: &'a Mutex<()>,
    /// One lock for all pairs with this target, by which those that must not add to each other's
    /// pauses take turns: [`Allowance::alone`].
    pub turns: &'a RwLock<()>,
}

/// One stretch of time in which the source did nothing but move keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// How many keys it was about.
    pub keys: u64,
    /// How many bytes of memory they took at the source.
    pub bytes: u64,
    /// From sending the commands to the last reply: other clients waited no longer than this.
    pub took: Duration,
    /// How long the source then needed to answer a question on another connection. By then it has
    /// read what every client sent it during the burst.
    pub lag: Duration,
    /// How many commands a second clients have sent to the end that is sent more of them, since the move
    /// began. None where that is not known yet.
    pub asked_per_s: Option<u32>,
}

/// How much the next burst may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// At most so many keys; one is always moved.
    pub keys: u32,
    /// At most so many bytes of memory; a key that is greater goes alone.
    pub bytes: u64,
    /// How long to leave the source alone before.
    pub pause: Duration,
    /// Whether clients are there: then one thing at a time is asked of the two ends, in small
    /// portions, also by other pairs with this target.
    pub alone: bool,
}

/// Decides how much goes next. Any closure of this form is one.
pub trait Pace {
    /// What the next burst may move, after this last one.
    fn next(&mut self, last: Option<&Burst>) -> Allowance;

    /// Whether what is begun is to end soon: then pauses are cut short. Asked many times in a second.
    fn is_urgent(&self) -> bool {
        false
    }
}

impl<F: FnMut(Option<&Burst>) -> Allowance> Pace for F {
    fn next(&mut self, last: Option<&Burst>) -> Allowance {
        self(last)
    }
}

/// What has been moved so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The slots that belong to the target now.
    pub slots: SlotSet,
    /// Keys that are at the target, also those of slots that are still open.
    pub keys: u64,
    /// The bytes of memory that they took at the source; 0 where the engine moved them itself.
    pub bytes: u64,
    /// The keys of which that is not known, for the source does not tell the sizes of keys. Not those that the engine
    /// moved itself.
    pub keys_unmeasured: u64,
}

/// What came of a move. What was moved stays moved, however it ended.
#[derive(Debug)]
#[must_use = "a move may have failed, or have left slots open"]
pub struct Outcome {
    /// What was moved.
    pub moved: Moved,
    /// Slots that may still be open. Some of their keys may be at either end; none is lost.
    pub left_open: SlotSet,
    /// Other primaries that could not be told, by what they said: gossip tells them later.
    pub untold: Vec<Error>,
    /// How it ended.
    pub end: End,
}

impl Outcome {
    fn begin() -> Self {
        Self {
            moved: Moved::default(),
            left_open: SlotSet::empty(),
            untold: Vec::new(),
            end: End::Done,
        }
    }

    fn leave_open(&mut self, slots: &[Slot]) {
        self.left_open = self.left_open.union(&slots.iter().copied().collect());
    }

    fn own(&mut self, slots: &[Slot]) {
        self.moved.slots = self.moved.slots.union(&slots.iter().copied().collect());
    }
}

/// How a move ended.
#[derive(Debug)]
pub enum End {
    /// All slots belong to the target.
    Done,
    /// The caller asked it to stop.
    Stopped,
    /// It could not go on.
    Failed(MoveError),
}

/// Why a move could not go on.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A call to one of the ends failed.
    #[error(transparent)]
    Node(#[from] Error),
    /// The server is not the node that was to be there, or does not own the slot.
    #[error("{at} does not own slot {slot} as node {}; look at the cluster again", node.short())]
    NotOwner {
        /// The server.
        at: Endpoint,
        /// The node that it was taken for.
        node: NodeId,
        /// The slot.
        slot: Slot,
    },
    /// The slot is half moved already, or the target holds keys of it. Nothing was changed.
    #[error("slot {slot} cannot be moved, for {at} {why}; close the slot first")]
    NotClean {
        /// The slot.
        slot: Slot,
        /// The server.
        at: Endpoint,
        /// What is there.
        why: Unclean,
    },
    /// One end has not heard of the other yet. The slots were closed again.
    #[error("{at} does not know node {} yet; wait until all views agree", node.short())]
    Stranger {
        /// The server that was asked.
        at: Endpoint,
        /// Whom it does not know.
        node: NodeId,
    },
    /// A key of the slot is at both ends, and it cannot be proved that the source's is the
    /// newer one. Nothing was overwritten.
    #[error(
        "keys {keys:?} of slot {slot} are at both ends, and the source may have been failed over or started again since; look which values are the right ones"
    )]
    BothSides {
        /// The slot.
        slot: Slot,
        /// The keys.
        keys: Vec<String>,
    },
    /// The target has no memory left. The keys that did not fit are still at the source.
    #[error("{target} takes no more keys ({said}); give it more memory, then move on")]
    TargetFull {
        /// The target.
        target: Endpoint,
        /// Its words.
        said: String,
    },
    /// The target would come to its memory limit. What did not fit is still at the source.
    #[error(
        "{target} has no room: it uses {used} bytes of memory, the next keys need {needs}, and its limit is {limit}{}; raise its maxmemory, then move on", at_limit(*evicts)
    )]
    NoRoom {
        /// The target.
        target: Endpoint,
        /// What it uses, in bytes, of what counts for its limit.
        used: u64,
        /// What the next keys need there, in bytes.
        needs: u64,
        /// Its limit, in bytes.
        limit: u64,
        /// Whether it deletes keys at its limit.
        evicts: bool,
    },
    /// The target deletes keys for lack of memory. What was not moved yet is still at the source.
    #[error(
        "{target} has deleted {keys} keys for lack of memory (evicted_keys) since the move began; raise its maxmemory, then move on, or move on regardless where that is a cache: --force"
    )]
    Evicts {
        /// The target.
        target: Endpoint,
        /// How many keys it has deleted since the move began.
        keys: u64,
    },
    /// A key is so great that moving it would keep the source from everyone for longer than its node-timeout: it would be
    /// taken for dead. It was not moved.
    #[error(
        "key {key} of slot {slot} takes {} MB: moving it would keep {at} from everyone for about {} s, longer than its cluster-node-timeout ({} ms), and it would be taken for dead. Raise that first (shardwright set-timeout {at} {}), or delete or divide the key; then go on", bytes / 1_000_000, takes.as_secs().max(1), node_timeout.as_millis(), (takes.as_millis() * 2).max(1)
    )]
    TooGreat {
        /// The key, as far as it can be written.
        key: String,
        /// Its slot.
        slot: Slot,
        /// What it takes in memory, in bytes.
        bytes: u64,
        /// The source.
        at: Endpoint,
        /// How long moving it would take.
        takes: Duration,
        /// After so much silence a node is taken for dead.
        node_timeout: Duration,
    },
    /// The target does not let the source in, or not do it what it must.
    #[error(
        "{target} does not let the source move keys to it ({said}); the user needs `restore-asking` and `select` there"
    )]
    Denied {
        /// The target.
        target: Endpoint,
        /// Its words.
        said: String,
    },
    /// The target refused keys for another reason.
    #[error("{target} refused keys: {said}")]
    Refused {
        /// The target.
        target: Endpoint,
        /// Its words.
        said: String,
    },
    /// The source still holds keys of the slot after they were moved again and again.
    #[error("{keys} keys of slot {slot} do not leave {at}; look at what writes them")]
    Stuck {
        /// The slot.
        slot: Slot,
        /// How many keys are left.
        keys: u64,
        /// The source.
        at: Endpoint,
    },
    /// The source has keys in other databases than the first, of which keys move one by one. Nothing was moved.
    #[error(
        "{at} holds {keys} keys in database {database}, and slots that move key by key would leave them behind; only the engine's own move takes all databases: see why it failed (cluster-databases of the target, the rights of the replication user)"
    )]
    SeveralDatabases {
        /// The source.
        at: Endpoint,
        /// The first of those databases.
        database: u32,
        /// How many keys that one holds.
        keys: u64,
    },
    /// The engine's own move failed. The slots are where they were.
    #[error("{at} could not move its slots: {said}")]
    Job {
        /// The source.
        at: Endpoint,
        /// Its words.
        said: String,
    },
}

/// What a server does at its limit, as the end of a sentence.
fn at_limit(evicts: bool) -> &'static str {
    if evicts {
        ", at which it deletes keys"
    } else {
        ", at which it refuses writes"
    }
}

/// What is wrong with a slot that was to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclean {
    /// It is open there.
    Open,
    /// The target holds so many keys of it.
    Holds(u64),
}

impl std::fmt::Display for Unclean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => f.write_str("shows it half moved"),
            Self::Holds(keys) => write!(f, "holds {keys} keys of it already"),
        }
    }
}
