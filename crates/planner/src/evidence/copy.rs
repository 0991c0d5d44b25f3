//! Evidence that a replica holds what its primary has: whom it copies, and whose stream its offset belongs to.

use shardwright_topology::{
    Address, Flags, Host, NodeId, NodeView, Observed, Replication, Role, Seen, Stream, Unreadable,
    Why,
};

/// The greatest offset that servers show before they have copied anything.
const NO_COPY: u64 = 1;

/// By how much a replica's last word of its primary may be later than the loss of its link, in milliseconds: that is told
/// in whole seconds, and the table shows the replica's clock to about a second.
pub(crate) const LOST_BEFORE_MS: u64 = 3_000;

/// Proof that a replica holds a copy of its primary's data: what it has read is a part of *this primary's* stream.
///
/// An offset alone proves nothing. A node that begins to follow keeps its own stream and offset until its first copy is
/// done, and one that follows a stranger has the stranger's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    of: NodeId,
    replication_id: Option<String>,
    offset: u64,
}

impl Copy {
    /// The proof, if there is one, for a replica of a primary that is heard or not.
    ///
    /// Its stream has to be the one that the primary had when it was last heard, or its link was seen up in this run.
    /// Where nobody remembers either, its link has to be up, or it must have lost one in this run (before its first copy
    /// a replica has none to lose), and what it holds may not be of another shard's stream. One that is still held back
    /// from elections began to follow this primary and was never seen with a copy: the link that it lost was another's.
    pub fn prove(o: &Observed, replica: NodeId, primary: NodeId) -> Option<Self> {
        let view = o.view_of(replica)?;
        let own = view.own()?;
        let offset = read(view)?;
        if own.primary != Some(primary) || matches!(target(o, view), Target::Elsewhere(_)) {
            return None;
        }
        // The stream was read, and its keys are not where they belong.
        if lacks_databases(o, view, primary) {
            return None;
        }
        // Without a link the offset is that of the stream that would be continued: none after a copy that failed.
        let holds = link_up(view) || offset > NO_COPY;
        let linked = was_linked(o, replica, primary);
        let is_of_it = match of_its_stream(o, view, primary) {
            Some(same) => same || linked && !link_up(view),
            // Whoever listened at its primary's address since may have been another.
            None if linked => view.server.stream.is_none() || !is_of_others(o, view),
            // A link leads to whoever listens there.
            None if link_up(view) => !from_another(o, view, primary),
            None => {
                let held_back = own.flags.has(Flags::NOFAILOVER);
                lost_with(view, primary) && !held_back && !is_of_others(o, view)
            }
        };
        (holds && is_of_it).then(|| Self {
            of: primary,
            replication_id: view.server.stream.as_ref().map(|s| s.id.clone()),
            offset,
        })
    }

    /// Whose data it is.
    pub fn of(&self) -> NodeId {
        self.of
    }

    /// The stream that was read, where the engine told it.
    pub fn replication_id(&self) -> Option<&str> {
        self.replication_id.as_deref()
    }

    /// How far it was read, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// From where a replica copies, against the addresses of the primary that it follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// From its primary.
    Primary,
    /// From an address that is not its primary's.
    Elsewhere(Address),
    /// It can't be told: the two are not comparable (a host name and an IP address), or no address is known.
    Unknown,
}

/// From where a replica copies.
///
/// Redis 7 sets a replica's target when it is made to follow, and when its primary itself tells of a new address; an
/// address that it learns from others goes into its table, but not into its target.
pub fn target(o: &Observed, view: &NodeView) -> Target {
    let (Some(own), Replication::Replica { primary: from, .. }) =
        (view.own(), &view.server.replication)
    else {
        return Target::Unknown;
    };
    let Some(primary) = own.primary.filter(|_| from.host != Host::Unstated) else {
        return Target::Unknown;
    };
    let row = view.rows.get(primary);
    let believed = row.is_some_and(|row| row.address.same_socket(from));
    // A primary that can't be asked may be where its replica believes it to be; and where it has a bus link, it is.
    let reached = o.view_of(primary).is_none() || row.is_some_and(|row| row.link_up);
    let proved = proved_addresses(o, primary);
    if proved.iter().any(|at| at.same_socket(from)) || believed && reached {
        return Target::Primary;
    }
    let addresses = || proved.iter().copied().chain(row.map(|row| &row.address));
    let same_host = addresses().any(|at| at.host == from.host);
    if is_listed(o, primary, view, same_host) {
        return Target::Primary;
    }
    if addresses().any(|at| differs(at, from)) {
        Target::Elsewhere(from.clone())
    } else {
        Target::Unknown
    }
}

/// Whether it is known that another node than its primary answers at the address from which a replica copies, be it one that
/// belongs nowhere here, while the process that has its place there is dead.
fn from_another(o: &Observed, replica: &NodeView, primary: NodeId) -> bool {
    let Replication::Replica { primary: from, .. } = &replica.server.replication else {
        return false;
    };
    o.servers().values().any(|s| {
        let there = s.address.known().is_some_and(|at| at.same_socket(from));
        let another = match &s.view {
            Seen::Known(view) => view.id != primary,
            Seen::Unknown(why) => matches!(why, Why::Strange(_)) && s.process.death().is_some(),
        };
        there && another
    })
}

/// Whether all that a replica holds is a copy of another node's than its primary, which lives: its link leads to that,
/// is up, and has its stream.
pub(crate) fn copies_another(o: &Observed, replica: &NodeView, primary: NodeId) -> bool {
    let Replication::Replica { primary: from, .. } = &replica.server.replication else {
        return false;
    };
    let Some(stream) = replica.server.stream.as_ref().filter(|_| link_up(replica)) else {
        return false;
    };
    let writes = |v: &NodeView| matches!(v.server.replication, Replication::Primary { .. });
    let same = |v: &NodeView| v.server.stream.as_ref().is_some_and(|s| s.id == stream.id);
    read(replica).is_some()
        && o.servers().values().any(|s| {
            let there = s.address.known().is_some_and(|at| at.same_socket(from));
            let view = s.view.known().filter(|v| v.id != primary && writes(v));
            there && view.is_some_and(same)
        })
}

/// Where the primary itself answers, and what it announces; while it is silent, what it announced last. What only it
/// believes is no proof: Redis 7 starts with the address that its table remembers, and corrects it late.
fn proved_addresses(o: &Observed, primary: NodeId) -> Vec<&Address> {
    let heard = o.view_of(primary);
    let reached = heard
        .and(o.server_of(primary))
        .and_then(|s| s.address.known());
    let said = heard.or_else(|| last_heard(o, primary));
    let announced = said.and_then(NodeView::own).map(|row| &row.address);
    let agrees = |at: &&Address| {
        let mut others = o.beliefs(primary).filter(|(id, _)| *id != primary);
        let alone = o.beliefs(primary).all(|(id, _)| id == primary);
        alone || others.any(|(_, row)| row.address.same_socket(at))
    };
    let announced = announced.filter(|at| reached.is_none() || agrees(at));
    let known = |at: &&Address| at.port != 0 && at.host != Host::Unstated;
    reached.into_iter().chain(announced).filter(known).collect()
}

/// Whether two addresses are certainly not one: a host name and an IP address may be, and a name that differs may be
/// another name of it.
fn differs(one: &Address, other: &Address) -> bool {
    let both = one.host.ip().zip(other.host.ip());
    one.port != 0 && both.is_some_and(|_| !one.same_socket(other))
}

/// Whether the primary lists this replica as connected: then it copies from it, by whatever address it calls it. It
/// lists one that went away silently for as long as its `repl-timeout`: at another host it counts only with a link.
fn is_listed(o: &Observed, primary: NodeId, replica: &NodeView, same_host: bool) -> bool {
    let at = o.member(replica.id).map(|m| &m.address);
    let Some(Replication::Primary { replicas, .. }) =
        o.view_of(primary).map(|v| &v.server.replication)
    else {
        return false;
    };
    let mut links = replicas.iter();
    let listed = links.any(|link| at.is_some_and(|at| at.same_socket(&link.address)));
    let busy = link_up(replica) || read(replica).is_none();
    let other = link_up(replica) && of_its_stream(o, replica, primary) == Some(false);
    listed && !other && (same_host || busy)
}

/// The address that a replica copies from, where that is not its primary's.
pub fn copies_elsewhere(o: &Observed, replica: NodeId) -> Option<Address> {
    match target(o, o.view_of(replica)?) {
        Target::Elsewhere(from) => Some(from),
        Target::Primary | Target::Unknown => None,
    }
}

/// Whether a node is a primary, or a replica that has its copy and follows its primary's stream.
pub(crate) fn in_sync(o: &Observed, view: &NodeView) -> bool {
    let Some(own) = view.own() else {
        return false;
    };
    match (own.role, &view.server.replication) {
        (Role::Primary, Replication::Primary { .. }) => true,
        (Role::Replica, Replication::Replica { .. }) => {
            let primary = own.primary;
            link_up(view) && primary.is_some_and(|id| Copy::prove(o, view.id, id).is_some())
        }
        (Role::Primary | Role::Replica, _) => false,
    }
}

/// How far a replica has read a stream; nothing while it takes a full copy, loads, or is no replica.
pub(crate) fn read(view: &NodeView) -> Option<u64> {
    match view.server.replication {
        Replication::Replica {
            offset,
            syncing: false,
            ..
        } if !view.server.loading => Some(offset),
        Replication::Replica { .. } | Replication::Primary { .. } => None,
    }
}

fn link_up(view: &NodeView) -> bool {
    matches!(
        view.server.replication,
        Replication::Replica { link_up: true, .. }
    )
}

/// Whether this replica was seen with its link to this primary up, in the run that it is in.
fn was_linked(o: &Observed, replica: NodeId, primary: NodeId) -> bool {
    o.linked.get(&replica) == Some(&primary)
}

/// The stream that a node had when it was last heard.
fn last_stream(o: &Observed, node: NodeId) -> Option<&Stream> {
    let view = o.view_of(node).or_else(|| last_heard(o, node))?;
    view.server.stream.as_ref()
}

/// Whether what a replica has read is a part of the stream that its primary had when it was last heard, or of one that
/// continues it; nothing where either is not known.
pub(crate) fn of_its_stream(o: &Observed, replica: &NodeView, primary: NodeId) -> Option<bool> {
    let (of, has) = (last_stream(o, primary)?, replica.server.stream.as_ref()?);
    let offset = match replica.server.replication {
        Replication::Replica { offset, .. } => offset,
        Replication::Primary { .. } => return Some(false),
    };
    Some(of.has(has, offset) || has.continues(of))
}

/// Whether a replica has fewer databases than its primary by that one's last word.
fn lacks_databases(o: &Observed, replica: &NodeView, primary: NodeId) -> bool {
    let said = o.view_of(primary).or_else(|| last_heard(o, primary));
    let why = said.and_then(|primary| replica.server.why_not_read(&primary.server));
    matches!(why, Some(Unreadable::Databases { .. }))
}

/// Whether a replica lost its link in this run, and that may have been by its primary's death: it had no word of that
/// by the bus after it, and holds no keys of slots that are another's. Before the first copy of a primary a replica has
/// the keys of its former one, and has lost the link to that.
fn lost_with(replica: &NodeView, primary: NodeId) -> bool {
    let Some(ago_s) = replica.server.link_lost_s else {
        return false;
    };
    let before = clock(replica)
        .zip(replica.rows.get(primary))
        .is_some_and(|(now, row)| {
            let lost = now.saturating_sub(ago_s.saturating_mul(1_000));
            row.pong_received_ms > lost.saturating_add(LOST_BEFORE_MS)
        });
    let only_its = match &replica.stray_keys {
        Seen::Known(keys) => keys.is_empty(),
        Seen::Unknown(_) => replica.server.keys == 0,
    };
    !before && only_its
}

/// A node's own clock as far as its table shows it, in Unix milliseconds: the latest word of anybody.
pub(crate) fn clock(view: &NodeView) -> Option<u64> {
    view.rows.iter().map(|row| row.pong_received_ms).max()
}

/// Whether a replica's stream is one that a node of another shard has, or had: then it is not its primary's.
fn is_of_others(o: &Observed, replica: &NodeView) -> bool {
    let shard = |v: &NodeView| v.own().and_then(|own| own.primary).unwrap_or(v.id);
    let Some(stream) = &replica.server.stream else {
        return true;
    };
    // One that has not taken its first copy has the stream of its former life.
    let first_copy = |v: &NodeView| {
        let own = v.own().filter(|own| own.role == Role::Replica);
        let held_back = own.is_some_and(|own| own.flags.has(Flags::NOFAILOVER));
        own.is_some() && read(v).is_none() || held_back && !link_up(v)
    };
    let same = |s: &Stream| s.id == stream.id || s.continues(stream);
    let servers = o.servers().values();
    let mut said = servers.filter_map(|s| s.view.known().or(s.last_heard.as_deref()));
    said.any(|v| {
        shard(v) != shard(replica) && !first_copy(v) && v.server.stream.as_ref().is_some_and(same)
    })
}

pub(crate) fn last_heard(o: &Observed, node: NodeId) -> Option<&NodeView> {
    let mut servers = o.servers().values();
    let last = servers.find_map(|s| s.last_heard.as_deref().filter(|v| v.id == node));
    last.or_else(|| o.former.get(&node))
}
