//! One server process as its runtime knows it.

use std::fmt;

use crate::wire::parse_nodes;
use crate::{
    Address, ConfigEpoch, NodeId, NodeView, Place, Role, Row, Seen, SlotSet, StartFailure,
};

/// Unix time in milliseconds. Always an input, never read here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds from `earlier` to this; 0 when the clock went backwards.
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The name a runtime gives to a server: a pod's name, a directory's, or `HOST:PORT`. It tells nothing of roles.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(pub String);

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What proves that a process is gone. A time-out is not here, on purpose.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DeathProof {
    /// It was never started.
    NotStarted,
    /// It was our child and was reaped, or its pid is gone or belongs to another process.
    ChildReaped,
    /// The kubelet says that this container ended.
    TerminatedByKubelet {
        /// The container's id.
        container: String,
    },
    /// Its address answered that nothing listens there. That alone is a fact about the address: nobody has a bus link
    /// to the node either, and where the process is not ours a majority of the primaries holds it to have failed.
    Refused,
}

/// A process is gone: proved, and since when.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Death {
    /// The proof.
    pub proof: DeathProof,
    /// When it was first proved.
    pub since: Timestamp,
}

/// The process of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Process {
    /// It runs.
    Running,
    /// It is gone, by proof.
    Dead(Death),
    /// Nothing proves either.
    Unknown,
}

impl Process {
    /// The proof of its death, if there is one.
    pub fn death(&self) -> Option<&Death> {
        match self {
            Self::Dead(death) => Some(death),
            Self::Running | Self::Unknown => None,
        }
    }
}

/// What a node on a disk would claim for itself if it came back: what its own row of the table of nodes there says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// No slots: it was a replica, or a primary without any, that took none in.
    Nothing,
    /// These slots, as their primary. None where it was only taking some in: its replicas may have keys of them.
    Slots {
        /// Its config epoch: whoever lists another owner with a smaller one believes it.
        epoch: ConfigEpoch,
        /// Which.
        slots: SlotSet,
    },
    /// Its table can't be read, so it may claim anything.
    Unreadable,
}

impl Claim {
    /// What the own row of a table of nodes claims (`nodes.conf`, or that row of it alone).
    pub fn read(table: &[u8]) -> Self {
        let rows = parse_nodes(table).ok();
        Self::of(rows.as_ref().and_then(|rows| rows.myself()))
    }

    /// What a node's own row of a table claims; `None` where there is no such row.
    pub fn of(own: Option<&Row>) -> Self {
        match own {
            None => Self::Unreadable,
            Some(own) if own.role == Role::Primary && has_slots(own) => Self::Slots {
                epoch: own.epoch,
                slots: own.slots.clone(),
            },
            Some(_) => Self::Nothing,
        }
    }
}

/// Whether a node may hold keys as a primary: it owns slots, or has some open.
fn has_slots(own: &Row) -> bool {
    !own.slots.is_empty() || !own.open.is_empty()
}

/// What a start of the server would find on its disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Disk {
    /// Nothing: it would start as a new node.
    Blank,
    /// Its identity, and an append-only file: it comes back with all but perhaps its last second.
    Log,
    /// Its identity, and a snapshot that was taken by a clean stop: it comes back with everything.
    CleanSnapshot,
    /// An identity that its server refuses to load: it ended at its last start for the table of nodes on its disk.
    TableRefused,
    /// An identity, and data that its server refuses to load: it ended at its last start for a damaged append-only or RDB
    /// file, or one that a newer engine wrote. `Server::start_failure` says which.
    DataRefused,
    /// Its identity, and at most a snapshot of an earlier time: what came after is gone.
    Stale {
        /// What it would claim.
        claim: Claim,
    },
}

/// Who starts a server's process when it has ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Starter {
    /// Only a step does: nothing runs again by itself.
    #[default]
    Step,
    /// Its host does, as a kubelet starts a container again. A start gate may still hold it: then it is
    /// [`Starter::Step`].
    Host,
}

/// One server process as its runtime knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Where it is reached now.
    pub address: Seen<Address>,
    /// Where it runs.
    pub place: Place,
    /// Whether its process lives.
    pub process: Process,
    /// Who starts it when it is dead.
    pub starter: Starter,
    /// True when it was told to end, and soon will: a pod that is being deleted.
    pub leaving: bool,
    /// What it said.
    pub view: Seen<NodeView>,
    /// What it said when it was last heard, kept by the runtime while it is silent; `None` if it never was.
    pub last_heard: Option<Box<NodeView>>,
    /// What it has on disk. Unknown for servers that are not ours to start.
    pub disk: Seen<Disk>,
    /// What the table of nodes there says of its own node, where that was read: another than the recorded one where one
    /// was born since. As that it would start.
    pub disk_row: Option<Box<Row>>,
    /// Why its last process ended before it served, by its own log, while it is dead; `None` where that is not known, or
    /// what it was started with has changed since.
    pub start_failure: Option<Box<StartFailure>>,
    /// The node that lived here last, as the runtime recorded it. The view's id counts more.
    pub recorded_id: Option<NodeId>,
}

impl Server {
    /// The node that lives here: what it says, else what was recorded.
    pub fn id(&self) -> Option<NodeId> {
        self.view.known().map(|v| v.id).or(self.recorded_id)
    }

    /// Whether what is on its disk is known to be another node's than the recorded one's.
    pub fn has_other_table(&self) -> bool {
        let both = self.disk_row.as_ref().zip(self.recorded_id);
        both.is_some_and(|(there, recorded)| there.id != recorded)
    }
}

/// A server that does not start as it was made, and would be made otherwise by now. Its runtime makes servers from a
/// template, and whoever declares the cluster has changed that since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutdatedStart {
    /// The revision of the template that it was made from.
    pub made_from: String,
    /// Why it does not start, in its host's words.
    pub why: String,
}

/// How often a server was told to start since it was last heard, and when it last was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Starts {
    /// How often.
    pub times: u32,
    /// When last.
    pub last: Timestamp,
}

/// Something that was asked of a node a while ago, and should not be asked again at once. Kept in memory only:
/// losing it costs a repetition, never safety.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Attempt {
    /// Who was asked.
    pub node: NodeId,
    /// To become a primary without the old one (`CLUSTER FAILOVER FORCE`), or with it (a switchover).
    pub kind: AttemptKind,
    /// When.
    pub at: Timestamp,
    /// Whether the node was heard after the engine must have given up. Until then it may have become a primary unheard.
    pub ended: bool,
}

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AttemptKind {
    /// A failover by vote.
    Failover,
    /// A failover without votes.
    Takeover,
    /// A planned change of roles, with sync.
    Switchover,
}

/// The stored fact that this cluster was formed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Formed {
    /// The cluster's id, made up when it was formed.
    pub cluster_id: String,
    /// When.
    pub at: Timestamp,
}
