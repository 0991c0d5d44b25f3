//! What one node says: of the others (its rows) and of itself.

use std::collections::BTreeMap;
use std::fmt;

use crate::{
    Address, AtLimit, ConfigEpoch, FunctionLibraries, NodeId, Seen, ShardId, Slot, SlotSet,
};

/// What a node is in its shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Takes writes for its slots, if it has any.
    Primary,
    /// Copies a primary.
    Replica,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

/// What a node believes of another's health.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Health {
    /// It answers.
    Fine,
    /// It has not answered this node for node-timeout (`PFAIL`).
    Suspected,
    /// A majority of primaries agreed that it failed (`FAIL`).
    Failed,
}

/// The flags of a row, beyond role and health.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// The row is the speaker's own.
    pub const MYSELF: Self = Self(1);
    /// Met, but not yet known by name.
    pub const HANDSHAKE: Self = Self(2);
    /// The speaker has no address for it.
    pub const NOADDR: Self = Self(4);
    /// It will not try to become a primary.
    pub const NOFAILOVER: Self = Self(8);

    /// Whether all of `other`'s flags are set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and `other`'s.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::MYSELF, "myself"),
            (Self::HANDSHAKE, "handshake"),
            (Self::NOADDR, "noaddr"),
        ];
        for (flag, name) in names.iter().chain(&[(Self::NOFAILOVER, "nofailover")]) {
            if self.has(*flag) {
                write!(f, "{name} ")?;
            }
        }
        Ok(())
    }
}

/// A slot that is half moved, as its row shows it. Only the speaker's own row carries these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OpenSlot {
    /// The speaker owns the slot and gives it to `to`.
    Migrating {
        /// The slot.
        slot: Slot,
        /// The receiver.
        to: NodeId,
    },
    /// The speaker takes the slot from `from`.
    Importing {
        /// The slot.
        slot: Slot,
        /// The giver.
        from: NodeId,
    },
}

impl OpenSlot {
    /// The slot that is open.
    pub fn slot(self) -> Slot {
        match self {
            Self::Migrating { slot, .. } | Self::Importing { slot, .. } => slot,
        }
    }
}

/// One line of `CLUSTER NODES`: what the speaker believes of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The node.
    pub id: NodeId,
    /// Where the speaker reaches it.
    pub address: Address,
    /// The host name it announces, if any.
    pub hostname: Option<Box<str>>,
    /// Its shard, on engines that tell.
    pub shard: Option<ShardId>,
    /// Its role.
    pub role: Role,
    /// Its primary, when it is a replica and the speaker knows of whom.
    pub primary: Option<NodeId>,
    /// Its health.
    pub health: Health,
    /// Further flags.
    pub flags: Flags,
    /// When the oldest unanswered ping was sent, in Unix milliseconds; 0 when none waits.
    pub ping_sent_ms: u64,
    /// When the last pong came, in Unix milliseconds; 0 when none did.
    pub pong_received_ms: u64,
    /// Its config epoch (a replica's row shows its primary's).
    pub epoch: ConfigEpoch,
    /// Whether the speaker's bus link to it is up.
    pub link_up: bool,
    /// The slots it owns.
    pub slots: SlotSet,
    /// Its open slots.
    pub open: Vec<OpenSlot>,
}

impl Row {
    /// True for a node that is really met: not in handshake.
    pub fn is_member(&self) -> bool {
        !self.flags.has(Flags::HANDSHAKE)
    }
}

/// The rows of one view, in order of node id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    /// Rows in any order; of rows with one id the first counts.
    pub fn new(mut rows: Vec<Row>) -> Self {
        rows.sort_by_key(|r| r.id); // stable, and quick on rows that are in order
        rows.dedup_by_key(|r| r.id);
        Self(rows)
    }

    /// The row of this node.
    pub fn get(&self, id: NodeId) -> Option<&Row> {
        self.0
            .binary_search_by_key(&id, |r| r.id)
            .ok()
            .map(|i| &self.0[i])
    }

    /// All rows, in order of node id.
    pub fn iter(&self) -> std::slice::Iter<'_, Row> {
        self.0.iter()
    }

    /// How many rows there are, handshakes included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The speaker's own row.
    pub fn myself(&self) -> Option<&Row> {
        self.0.iter().find(|r| r.flags.has(Flags::MYSELF))
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// `CLUSTER INFO`: what a node says of the cluster as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterInfo {
    /// `cluster_state:ok`: the node serves.
    pub state_ok: bool,
    /// Slots that have an owner, 0 to 16384.
    pub slots_assigned: u16,
    /// Nodes in its table, handshakes included.
    pub known_nodes: u32,
    /// Primaries with slots; 1 on a node that just started, until it has counted.
    pub size: u32,
    /// The greatest epoch it has seen.
    pub current_epoch: ConfigEpoch,
    /// Its own config epoch (for a replica, its primary's).
    pub my_epoch: ConfigEpoch,
}

/// Which engine a server is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EngineKind {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

/// A server's version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// Major.
    pub major: u16,
    /// Minor.
    pub minor: u16,
    /// Patch.
    pub patch: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A replica as its primary sees it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReplicaLink {
    /// The replica's address as the primary sees it (the bus port is the default one: replication does not tell it).
    pub address: Address,
    /// True when it has its first full copy and follows the stream.
    pub online: bool,
    /// How far it confirmed the stream, in bytes.
    pub offset: u64,
}

/// Replication as the server itself tells it (`INFO replication`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Replication {
    /// It acts as a primary.
    Primary {
        /// The end of its replication stream, in bytes.
        offset: u64,
        /// The replicas that are connected to it.
        replicas: Vec<ReplicaLink>,
    },
    /// It acts as a replica.
    Replica {
        /// The address it copies from.
        primary: Address,
        /// Whether the link is up and the first copy done.
        link_up: bool,
        /// Whether a full copy is being taken.
        syncing: bool,
        /// How far it has read the stream, in bytes. 0 on a replica that never had a copy.
        offset: u64,
    },
}

/// The stream that a server writes, or has read: an offset means something only within one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stream {
    /// Its replication id. A replica takes over its primary's once the first copy is done, and not before.
    pub id: String,
    /// The stream that it continued when it was promoted, and the offset up to which the two are one.
    pub before: Option<(String, u64)>,
}

impl Stream {
    /// Whether a copy of `other`, read up to `offset`, is a copy of this stream.
    pub fn has(&self, other: &Self, offset: u64) -> bool {
        let earlier = |(id, until): &(String, u64)| *id == other.id && offset <= *until;
        self.id == other.id || self.before.as_ref().is_some_and(earlier)
    }

    /// Whether this is the stream that came after `other`, which ended with a promotion.
    pub fn continues(&self, other: &Self) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|(id, _)| *id == other.id)
    }
}

/// What `INFO` tells of a server. A field the server does not report is `None`: unknown, not zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerInfo {
    /// The engine.
    pub engine: EngineKind,
    /// Its version.
    pub version: Version,
    /// Changes with every start of the process.
    pub run_id: String,
    /// Replication.
    pub replication: Replication,
    /// The stream that its data and its offset belong to.
    pub stream: Option<Stream>,
    /// How far that stream is here, in bytes. Where a former primary takes its first copy of another it is still told of its
    /// own stream, when its offset as a replica is not told any more.
    pub stream_end: Option<u64>,
    /// For a replica without its link: seconds since it lost it. `None` if it had none since it became a replica in this
    /// run, and where it has one.
    pub link_lost_s: Option<u64>,
    /// True while it loads its data set.
    pub loading: bool,
    /// True when the append-only file is on.
    pub aof_enabled: Option<bool>,
    /// Memory used by data and overhead, in bytes.
    pub used_memory_bytes: Option<u64>,
    /// The memory limit, in bytes; 0 is no limit.
    pub maxmemory_bytes: Option<u64>,
    /// What it does at that limit.
    pub at_limit: Option<AtLimit>,
    /// How many keys it has deleted for lack of memory since it began (`evicted_keys`).
    pub evicted_keys: Option<u64>,
    /// Commands per second, lately.
    pub ops_per_s: Option<u64>,
    /// Keys of all databases together.
    pub keys: u64,
    /// Keys of each database that has some. A cluster has database 0 only, but for Valkey 9 and later.
    pub databases: BTreeMap<u32, u64>,
    /// How many databases it has: one, but for Valkey 9 and later (`cluster-databases`, which does not change while it
    /// runs). `None` where that was not asked for, or not told.
    pub databases_max: Option<u32>,
    /// How many libraries of functions it has loaded (`FUNCTION LOAD`). Moving slots does not take them along.
    pub libraries: Option<u64>,
    /// Seconds since the process began.
    pub uptime_s: Option<u64>,
    /// The zone that a Valkey server is told to be in (`availability-zone`).
    pub availability_zone: Option<String>,
    /// Why it refuses what clients write, if it does.
    pub no_writes: Option<NoWrites>,
    /// The full copies that it has begun to send to replicas, if it tells.
    pub full_copies: Option<FullCopies>,
}

impl ServerInfo {
    /// Whether what it holds is of the stream of this id, or of one that continues it, all loaded, and with at least so
    /// many keys.
    pub fn holds_data_of(&self, stream: &str, keys_min: u64) -> bool {
        let its = |now: &Stream| {
            let before = now.before.as_ref();
            now.id == stream || before.is_some_and(|(id, _)| id == stream)
        };
        !self.loading && self.keys >= keys_min && self.stream.as_ref().is_some_and(its)
    }
}

/// The full copies that a server has begun to send since its process began, and what may end one before it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FullCopies {
    /// How many it has begun (`sync_full`).
    pub begun: u64,
    /// How many clients of any kind it has closed as their output buffers exceeded their limit
    /// (`client_output_buffer_limit_disconnections`). `None` where the engine does not count them (Redis before 7.4).
    pub closed: Option<u64>,
    /// At how many bytes of output a replica is closed, at once or after some seconds (`client-output-buffer-limit`): the
    /// lower of the two. `None` where there is no limit, or where it was not asked for.
    pub buffer_limit_bytes: Option<u64>,
}

/// Why a server refuses what clients write, though it answers all else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoWrites {
    /// Its append-only file could not be written (`aof_last_write_status:err`): `MISCONF`, until it can.
    Log,
    /// Its last snapshot failed (`rdb_last_bgsave_status:err`), and it is set to refuse writes then
    /// (`stop-writes-on-bgsave-error`): `MISCONF`, until one succeeds.
    Snapshot,
    /// Fewer replicas keep up than `min-replicas-to-write` asks for: `NOREPLICAS`.
    Replicas {
        /// How many do.
        good: u64,
    },
    /// Its memory limit is reached, and it evicts nothing (`noeviction`): `OOM`.
    Memory,
}

/// Whether a server of one engine and version can load all that one of another writes: keys that are sent to it, and a
/// whole copy as its replica.
///
/// Each reads its own format and older ones (10 of Redis 7.0, 11 of Redis 7.2 and of Valkey before 9, 12 of Redis
/// 7.4, 80 of Valkey 9), and none of the other engine's after they parted. Measured by
/// `fact_keys_are_read_by_their_format` and `fact_a_copy_is_read_by_its_format`.
pub fn reads(reader: (EngineKind, Version), writer: (EngineKind, Version)) -> bool {
    let ((by, to), (of, from)) = (reader, writer);
    let minor = |v: Version| (v.major, v.minor);
    match (of, by) {
        (EngineKind::Redis, EngineKind::Redis) => minor(from) <= minor(to),
        (EngineKind::Redis, EngineKind::Valkey) => minor(from) <= (7, 2),
        (EngineKind::Valkey, EngineKind::Valkey) => from.major < 9 || from.major <= to.major,
        (EngineKind::Valkey, EngineKind::Redis) => from.major < 9 && minor(to) >= (7, 2),
    }
}

/// Whether a server of this engine and version may have more databases than one in a cluster.
pub fn has_databases(engine: EngineKind, version: Version) -> bool {
    engine == EngineKind::Valkey && version.major >= 9
}

/// Why a server can't load all that another writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unreadable {
    /// Its version can't read it: see [`reads`].
    Version,
    /// It has fewer databases. Valkey refuses to select one that it does not have and goes on in database 0, with its
    /// primary's stream as with its own file: keys of the others take the place of those there
    /// (`fact_a_replica_with_fewer_databases_mixes_keys`).
    Databases {
        /// How many it has.
        has: u32,
        /// How many the other has.
        wants: u32,
    },
}

impl ServerInfo {
    /// Whether this server can load all that another writes.
    pub fn reads(&self, writer: &Self) -> bool {
        self.why_not_read(writer).is_none()
    }

    /// Why this server can't load all that another writes, now or later.
    pub fn why_not_read(&self, writer: &Self) -> Option<Unreadable> {
        if !reads((self.engine, self.version), (writer.engine, writer.version)) {
            return Some(Unreadable::Version);
        }
        let wants = writer.databases_max.max(writer.databases_in_use());
        self.why_too_few(wants?)
    }

    /// Why this server can't take the keys that another has.
    pub fn why_not_take_keys(&self, source: &Self) -> Option<Unreadable> {
        if !reads((self.engine, self.version), (source.engine, source.version)) {
            return Some(Unreadable::Version);
        }
        self.why_too_few(source.databases_in_use()?)
    }

    /// How many databases a server needs to hold the keys of this one. `None` where it has no key.
    fn databases_in_use(&self) -> Option<u32> {
        self.databases.keys().next_back().map(|n| n + 1)
    }

    fn why_too_few(&self, wants: u32) -> Option<Unreadable> {
        let has = self.databases_max?;
        (has < wants).then_some(Unreadable::Databases { has, wants })
    }
}

/// Everything one node said in one observation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Who speaks (`CLUSTER MYID`).
    pub id: NodeId,
    /// What it believes of every node, itself included.
    pub rows: Rows,
    /// What it says of the cluster.
    pub cluster: ClusterInfo,
    /// What it says of itself.
    pub server: ServerInfo,
    /// Keys, of all databases, that it holds of the slots that were counted: those that are open somewhere, and those
    /// that nobody owns, unless it holds no key at all. A slot that is not here was not counted.
    pub keys_in_slot: BTreeMap<Slot, u64>,
    /// Keys, of all databases, that it holds of slots that are not its own: every such slot with how many, open ones too.
    /// Of a replica: of slots that, by its own table, are not its primary's, where it has no link and that was not heard.
    /// Unknown where nobody counted, or counting failed, and of other replicas.
    pub stray_keys: Seen<BTreeMap<Slot, u64>>,
    /// Which libraries of functions it has loaded, with their code. Read of primaries only, where
    /// [`ServerInfo::libraries`] counts some: see [`NodeView::functions`].
    pub functions: Seen<FunctionLibraries>,
}

impl NodeView {
    /// The speaker's own row. Every view that parses has one.
    pub fn own(&self) -> Option<&Row> {
        self.rows.get(self.id)
    }

    /// The slots that it has open as a primary. A Valkey replica repeats those of its primary, and can close none.
    pub fn open_slots(&self) -> &[OpenSlot] {
        let primary = self.own().filter(|own| own.role == Role::Primary);
        primary.map_or(&[], |own| &own.open)
    }

    /// Its libraries of functions: `Known` and empty where it says that it has none. `None` where it does not tell how
    /// many it has (a server without functions).
    pub fn functions(&self) -> Option<Seen<&FunctionLibraries>> {
        static NONE: FunctionLibraries = FunctionLibraries::new();
        Some(match (self.server.libraries?, &self.functions) {
            (0, _) => Seen::Known(&NONE),
            (_, Seen::Known(libraries)) => Seen::Known(libraries),
            (_, Seen::Unknown(why)) => Seen::Unknown(why.clone()),
        })
    }

    /// The nodes it really knows beside itself: handshakes left out.
    pub fn peers(&self) -> impl Iterator<Item = &Row> {
        self.rows
            .iter()
            .filter(|r| r.is_member() && r.id != self.id)
    }

    /// How many keys it holds of a slot that is open, or that nobody owns; unknown where it was not counted.
    pub fn keys_of(&self, slot: Slot) -> Option<u64> {
        if self.server.keys == 0 {
            return Some(0);
        }
        self.keys_in_slot.get(&slot).copied()
    }

    /// True for a node that never was in a cluster, or was reset: no peer, no slot, no key.
    pub fn is_blank(&self) -> bool {
        self.rows
            .iter()
            .all(|r| r.id == self.id && r.slots.is_empty())
            && self.server.keys == 0
    }
}
