//! Evidence: values that can be had only by proof. An action that is dangerous on a guess asks for one,
//! so that a time-out cannot be passed to it.

mod copy;
mod place;

use std::collections::BTreeMap;

pub use copy::{Copy, Target, copies_elsewhere, target};
pub(crate) use copy::{
    LOST_BEFORE_MS, clock, copies_another, in_sync, last_heard, of_its_stream, read,
};
pub use place::{EmptyPlace, Follower, Follows, Who};
pub(crate) use place::{brings_nothing, has_file_of, is_anothers};

use shardwright_topology::{
    Address, Death, DeathProof, Disk, Health, NodeId, NodeView, Observed, Role, Row, Server,
    ServerName, Source, Timestamp,
};

use crate::ours::Standing;
use crate::refused::{answers_others, linked_by};
use crate::returned::given_up;
use crate::safety::why_not_retire;
use crate::stated::is_stated_dead;
use crate::waiting::Foreign;
use crate::{Authority, Desired};

/// Proof that a node's process is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dead {
    node: NodeId,
    how: HowDead,
}

/// How a death is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HowDead {
    /// The runtime proved it.
    Proved(Death),
    /// Its own server speaks as another node: its directory was lost.
    Replaced {
        /// The node that now lives there.
        by: NodeId,
        /// It ended before the process began that now runs in its place.
        before: Timestamp,
    },
    /// Nobody has an address of it or a link to it, every other primary was heard, and a person gave it up by asking for
    /// one of its replicas in its place.
    GivenUp,
    /// The cluster is one that we formed, and every server of it is dead, or known to be another node's.
    Nowhere,
    /// A person stated it when asking for one of its replicas in its place, and the primary answers nobody.
    Stated,
}

impl Dead {
    /// The proof, if there is one. A node that is merely silent has none.
    pub fn prove(o: &Observed, node: NodeId) -> Option<Self> {
        // Of two processes with one id the other may live.
        if o.view_of(node).is_some() || o.has_duplicate(node) {
            return None;
        }
        let how = if let Some(server) = o.server_of(node) {
            let death = server.process.death()?;
            // What refuses clients and answers other nodes lives.
            if death.proof == DeathProof::Refused && linked_by(o, node) > 0 {
                return None;
            }
            HowDead::Proved(death.clone())
        } else if answers_others(o, node) {
            // Its old process may live on where we do not look, as a pod does behind a silent kubelet.
            return None;
        } else if let Some(seat) = o.servers().values().find(|s| s.recorded_id == Some(node)) {
            let by = speaks_as_another(o, seat, node)?;
            let uptime_s = o.view_of(by).and_then(|view| view.server.uptime_s);
            let age_ms = uptime_s.map(|s| s.saturating_mul(1_000));
            HowDead::Replaced {
                by,
                before: Timestamp(age_ms.map_or(o.at.0, |ms| o.at.0.saturating_sub(ms))),
            }
        } else if o.formed.is_some() && o.servers().values().all(|s| dead_or_elsewhere(o, s, node))
        {
            HowDead::Nowhere
        } else {
            return None;
        };
        Some(Self { node, how })
    }

    /// The proof by a person's word, where a node's id has no address any more: see [`HowDead::GivenUp`].
    pub fn given_up(d: &Desired, o: &Observed, node: NodeId) -> Option<Self> {
        let how = HowDead::GivenUp;
        given_up(d, o, node).then_some(Self { node, how })
    }

    /// The proof by a person's statement: see [`HowDead::Stated`]. It ends as soon as the node answers anybody.
    pub fn stated(d: &Desired, o: &Observed, node: NodeId) -> Option<Self> {
        let how = HowDead::Stated;
        is_stated_dead(d, o, node).then_some(Self { node, how })
    }

    /// Who is dead.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// How that is known.
    pub fn how(&self) -> &HowDead {
        &self.how
    }
}

/// Proof that a node lives at an address: it said so itself, there, in this observation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveAt {
    node: NodeId,
    address: Address,
}

impl LiveAt {
    /// The proof, if there is one.
    pub fn prove(o: &Observed, node: NodeId) -> Option<Self> {
        let view = o.view_of(node).filter(|_| !o.has_duplicate(node))?;
        let address = o.server_of(node)?.address.known()?.clone();
        Some(Self {
            node: view.id,
            address,
        })
    }

    /// Who lives there.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// Proof that a majority of the primaries that own slots see a replica as a replica of its primary: without it a
/// vote is denied, and the denial blocks the next for 4 × node-timeout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleSeen {
    replica: NodeId,
    by: usize,
    of: usize,
}

impl RoleSeen {
    /// The proof, if there is one.
    pub fn prove(o: &Observed, replica: NodeId, primary: NodeId) -> Option<Self> {
        let of = o.voters().count();
        let by = o
            .voters()
            .filter(|v| sees_role(o, v.id, replica, primary))
            .count();
        (by > of / 2).then_some(Self { replica, by, of })
    }

    /// The replica.
    pub fn replica(&self) -> NodeId {
        self.replica
    }

    /// How many voters see it, of how many.
    pub fn tally(&self) -> (usize, usize) {
        (self.by, self.of)
    }
}

/// Whether this voter was heard, and lists the replica as this primary's.
pub(crate) fn sees_role(o: &Observed, voter: NodeId, replica: NodeId, primary: NodeId) -> bool {
    o.view_of(voter)
        .filter(|_| !o.has_duplicate(voter))
        .and_then(|v| v.rows.get(replica))
        .is_some_and(|row| row.role == Role::Replica && row.primary == Some(primary))
}

/// The other node that speaks at a server. A copy of another server's disk says nothing of the one that was there.
fn speaks_as_another(o: &Observed, s: &Server, node: NodeId) -> Option<NodeId> {
    let id = s.view.known().map(|v| v.id)?;
    (id != node && !o.has_duplicate(id)).then_some(id)
}

/// Whether a server is known to be another node's: by its own word, or by a record that can be trusted.
pub(crate) fn is_elsewhere(o: &Observed, s: &Server, node: NodeId) -> bool {
    let owns = |id| o.member(id).is_some_and(|m| !m.slots.is_empty());
    let blank = s.process.death().is_some() && s.disk.known() == Some(&Disk::Blank);
    match (s.view.known(), s.recorded_id) {
        (Some(_), _) => speaks_as_another(o, s, node).is_some(),
        (None, Some(id)) if blank => id != node,
        // What it said last is newer than the record; and while the recorded node owns slots, its successor at the
        // same server is not yet recorded.
        (None, Some(id)) => {
            let last = s.last_heard.as_ref().is_none_or(|v| v.id != node);
            id != node && !owns(id) && last && !is_believed_there(o, s, node)
        }
        (None, None) => false,
    }
}

/// Whether others look for the node at this server: it may live there, and be newer than the record.
fn is_believed_there(o: &Observed, s: &Server, node: NodeId) -> bool {
    let believed = o.member(node).filter(|m| m.source == Source::Others);
    let there = |address: &Address| believed.is_some_and(|m| m.address.same_socket(address));
    s.address.known().is_some_and(there)
}

/// Whether every server is known to be another node's: then the node will not return.
pub(crate) fn is_nowhere(o: &Observed, node: NodeId) -> bool {
    o.servers().values().all(|s| is_elsewhere(o, s, node))
}

/// Whether a node does not live at this server now: the server is another node's, or its process is gone.
fn dead_or_elsewhere(o: &Observed, s: &Server, node: NodeId) -> bool {
    s.process.death().is_some() || is_elsewhere(o, s, node)
}

/// Proof that a node is not, and will not be, at any server of ours: every server's node is known, and it is none of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    node: NodeId,
}

impl Gone {
    /// The proof, if there is one. Among guests it is never had: an absent node may return.
    pub fn prove(d: &Desired, o: &Observed, node: NodeId) -> Option<Self> {
        let managed = d.authority == Authority::Managed;
        (managed && is_nowhere(o, node)).then_some(Self { node })
    }

    /// The proof by a person's request: the node was asked to leave, owns nothing, and holds no key that is no copy.
    pub fn asked_to_leave(d: &Desired, o: &Observed, node: NodeId) -> Option<Self> {
        let asked = matches!(&d.request, Some(crate::Request::Leave { node: n }) if *n == node);
        let member = o.member(node).filter(|_| !o.has_duplicate(node))?;
        let held = o.view_of(node).filter(|v| v.server.keys > 0);
        let no_copy = held.is_some_and(|v| v.own().is_some_and(|own| own.role == Role::Primary));
        let may = !no_copy || d.consent.lose_data;
        (asked && may && member.slots.is_empty()).then_some(Self { node })
    }

    /// The proof by a person's word, among servers that others run: what a primary held is given up. It has failed by
    /// the word of everyone who lists it, nobody has a link to it, nobody is listed as its replica, and everyone else was
    /// heard.
    pub fn given_up(d: &Desired, o: &Observed, node: NodeId) -> Option<Self> {
        let asked = d.consent.lose_data && d.authority == Authority::Guest;
        let member = o.member(node).filter(|m| m.source == Source::Others)?;
        let failed = |row: &Row| row.health == Health::Failed && !row.link_up;
        let lost = member.role == Role::Primary
            && o.beliefs(node).all(|(_, row)| failed(row))
            && o.views()
                .flat_map(|(_, view)| view.rows.iter())
                .all(|row| row.primary != Some(node));
        let mut others = o.members().values().filter(|m| m.id != node);
        let heard = others.all(|m| m.source == Source::Itself);
        (asked && lost && heard).then_some(Self { node })
    }

    /// The proof for the id that a server had before it lost its table of nodes.
    pub(crate) fn returned(
        standings: &BTreeMap<ServerName, Standing>,
        node: NodeId,
    ) -> Option<Self> {
        let was = Standing::Foreign(Foreign::Returned { was: node });
        let returned = standings.values().any(|standing| *standing == was);
        returned.then_some(Self { node })
    }

    /// The proof for a node that is not wanted any more: its server is too many, and nothing of it is needed.
    pub fn not_wanted(d: &Desired, o: &Observed, node: NodeId) -> Option<Self> {
        why_not_retire(d, o, o.server_of(node)?)
            .is_empty()
            .then_some(Self { node })
    }

    /// Who is gone.
    pub fn node(&self) -> NodeId {
        self.node
    }
}

/// Proof that a node was never used: no peer, no slot, no key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blank {
    node: NodeId,
    server: ServerName,
}

impl Blank {
    /// The proof, if there is one.
    pub fn prove(o: &Observed, server: &ServerName) -> Option<Self> {
        let view = o.servers().get(server)?.view.known()?;
        view.is_blank().then(|| Self {
            node: view.id,
            server: server.clone(),
        })
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Its server.
    pub fn server(&self) -> &ServerName {
        &self.server
    }
}

/// Proof that a node may take a primary to copy: it was heard, owns no slot, and holds no key that is not a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unburdened {
    node: NodeId,
}

impl Unburdened {
    /// The proof, if there is one.
    pub fn prove(o: &Observed, node: NodeId) -> Option<Self> {
        let member = o
            .member(node)
            .filter(|m| m.source == Source::Itself && m.slots.is_empty())?;
        let view: &NodeView = o.view_of(node)?;
        let claims = view.own()?.slots.is_empty();
        // Which of two processes with its primary's id it has a copy of is not known.
        let copies_one = !member.primary.is_some_and(|id| o.has_duplicate(id));
        let copy = member.role == Role::Replica && copies_one && !o.has_duplicate(node);
        let keys = copy || view.server.keys == 0;
        (claims && keys).then_some(Self { node })
    }

    /// Who.
    pub fn node(&self) -> NodeId {
        self.node
    }
}
