//! Whether anybody would copy what starts at a server's address.

use std::fmt;

use shardwright_topology::{
    Address, Disk, Member, NodeId, NodeView, Observed, Replication, Role, Row, Server, ServerName,
    SlotSet, Source,
};

use super::Dead;

/// Proof that nobody follows a server's address. Replicas of Redis 7.0, 7.4 and Valkey 8.0 follow the address of their
/// primary: one that starts without data there would empty them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EmptyPlace {
    server: ServerName,
}

/// Who may follow an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Follower {
    /// Its server; the node where its server is not known.
    pub who: Who,
    /// What is known of it.
    pub how: Follows,
}

/// A server, or a node without one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// A server.
    Server(ServerName),
    /// A node that lives nobody knows where.
    Node(NodeId),
}

/// What is known of who may follow an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Follows {
    /// It copies from there now, and holds keys.
    Copies {
        /// How many.
        keys: u64,
    },
    /// It was a replica of the node there when anything was last known of it, is not heard, and is not proved dead.
    Unheard,
    /// The same, and it is down with data on its disk: it comes back first.
    Down,
    /// It is not heard, and nobody tells whose replica it is.
    Unknown,
}

impl fmt::Display for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Server(name) => write!(f, "{name} ")?,
            Who::Node(node) => write!(f, "{node:?} ")?,
        }
        match self.how {
            Follows::Copies { keys } => write!(f, "copies from there and holds {keys} key(s)"),
            Follows::Unheard => f.write_str("was its replica, is not heard, and may live"),
            Follows::Down => f.write_str("was its replica, and comes back with its data first"),
            Follows::Unknown => f.write_str("is not heard, and may be its replica"),
        }
    }
}

impl EmptyPlace {
    /// The proof, or the first who may follow.
    ///
    /// # Errors
    /// When somebody follows the address, or may.
    pub fn prove(o: &Observed, server: &Server) -> Result<Self, Follower> {
        match Self::followers(o, server).next() {
            Some(follower) => Err(follower),
            None => Ok(Self {
                server: server.name.clone(),
            }),
        }
    }

    /// Everyone who follows the address, or may.
    pub(crate) fn followers<'a>(
        o: &'a Observed,
        server: &'a Server,
    ) -> impl Iterator<Item = Follower> + 'a {
        let place = Place {
            node: server.recorded_id,
            address: server.address.known(),
            slots: owned_by_word(o, server.recorded_id),
        };
        let node = place.node;
        let others = o.servers().values().filter(|s| s.name != server.name);
        let followers = others.filter_map(move |s| {
            let who = Who::Server(s.name.clone());
            place.follows(o, s).map(|how| Follower { who, how })
        });
        let homeless = o.members().values().filter(|m| m.server.is_none());
        let lost = homeless
            .filter(move |m| is_replica_of(m, node) && Dead::prove(o, m.id).is_none())
            .map(|m| Follower {
                who: Who::Node(m.id),
                how: Follows::Unheard,
            });
        followers.chain(lost)
    }

    /// The server whose address it is.
    pub fn server(&self) -> &ServerName {
        &self.server
    }
}

/// The slots that others give to a node that is silent.
fn owned_by_word(o: &Observed, node: Option<NodeId>) -> SlotSet {
    let member = node.and_then(|id| o.member(id));
    let silent = member.filter(|m| m.source == Source::Others);
    silent.map_or_else(SlotSet::empty, |m| m.slots.clone())
}

/// Whether a server that is down comes back without what the recorded node wrote: its directory is blank, or has the
/// table of a node that was born there since.
pub(crate) fn brings_nothing(o: &Observed, s: &Server) -> bool {
    is_without_data(s) || is_anothers(o, s)
}

/// Whether a directory has another node's table, and not the recorded node's data.
pub(crate) fn is_anothers(o: &Observed, s: &Server) -> bool {
    s.has_other_table() && !is_reborn(o, s)
}

/// Whether the other node in a directory may be the recorded one, which lost its table: an engine that loads keys of
/// slots without an owner takes those slots (`verifyClusterConfigWithData`), so its row claims some of what the others
/// give to the recorded node, besides others of which it had keys.
pub(crate) fn is_reborn(o: &Observed, s: &Server) -> bool {
    let both = s.disk_row.as_deref().zip(s.recorded_id);
    both.is_some_and(|(there, recorded)| {
        let given = owned_by_word(o, Some(recorded));
        let claims = there.role == Role::Primary;
        there.id != recorded && claims && !there.slots.intersection(&given).is_empty()
    })
}

/// Whether a start would bring back all that a node wrote, but perhaps its last second.
pub(crate) fn has_file_of(o: &Observed, s: &Server, node: NodeId) -> bool {
    let whole = matches!(
        s.disk.known(),
        Some(Disk::Log | Disk::CleanSnapshot | Disk::Tableless)
    );
    let its = s.disk_row.as_ref().is_none_or(|there| there.id == node);
    whole && (its || s.recorded_id == Some(node) && is_reborn(o, s))
}

/// Whether a server that is down comes back without any key: its directory is blank, or is that of a node that was born
/// there since, and had none. One that only answered at its address left the recorded node's table where it is.
fn is_without_data(s: &Server) -> bool {
    let reborn = s.recorded_id.is_some_and(|recorded| {
        let last = s.last_heard.as_deref();
        let has_its_table = s
            .disk_row
            .as_ref()
            .is_some_and(|there| there.id == recorded);
        !has_its_table && last.is_some_and(|last| last.id != recorded && last.server.keys == 0)
    });
    reborn || s.disk.known() == Some(&Disk::Blank)
}

/// Whom others may follow: the node that was recorded at the server, and its address. Whoever comes back with slots that
/// it has taken since becomes its replica.
struct Place<'a> {
    node: Option<NodeId>,
    address: Option<&'a Address>,
    slots: SlotSet,
}

impl Place<'_> {
    fn follows(&self, o: &Observed, s: &Server) -> Option<Follows> {
        if let Some(view) = s.view.known() {
            let keys = view.server.keys;
            return (keys > 0 && self.is_followed_by(view)).then_some(Follows::Copies { keys });
        }
        let dead = s.process.death().is_some();
        if dead && is_without_data(s) {
            return None;
        }
        if let Some(own) = s.disk_row.as_ref().filter(|_| dead) {
            let follows = own.role == Role::Replica && own.primary == self.node;
            return (follows || self.has_taken_from(own)).then_some(Follows::Down);
        }
        let before = s.last_heard.as_deref();
        let before = before.filter(|v| s.recorded_id.is_none_or(|id| id == v.id));
        let told = s.recorded_id.and_then(|id| o.member(id));
        let told = told.filter(|m| m.source == Source::Others);
        if before.is_none() && told.is_none() {
            return Some(Follows::Unknown);
        }
        let follows = before.is_some_and(|v| self.is_followed_by(v))
            || told.is_some_and(|m| is_replica_of(m, self.node));
        let how = if dead {
            Follows::Down
        } else {
            Follows::Unheard
        };
        follows.then_some(how)
    }

    /// By the node's own word: its table says so, or its replication does.
    fn is_followed_by(&self, view: &NodeView) -> bool {
        let listed = view.own().and_then(|own| own.primary);
        let copied = match &view.server.replication {
            Replication::Replica { primary, .. } => Some(primary),
            Replication::Primary { .. } => None,
        };
        let here = |a: &Address| self.address.is_some_and(|at| a.same_socket(at));
        if view.own().is_some_and(|own| self.has_taken_from(own)) {
            return true;
        }
        (listed.is_some() && listed == self.node) || copied.is_some_and(here)
    }

    /// Whether a primary claims slots for itself that the others give to this node.
    fn has_taken_from(&self, own: &Row) -> bool {
        let other = Some(own.id) != self.node && own.role == Role::Primary;
        other && !own.slots.intersection(&self.slots).is_empty()
    }
}

/// Whether a node is a replica of this one, by others' word.
fn is_replica_of(m: &Member, node: Option<NodeId>) -> bool {
    m.role == Role::Replica && m.primary.is_some() && m.primary == node
}
