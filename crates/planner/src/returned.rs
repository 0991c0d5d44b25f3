//! A primary that lost its table of nodes: its server has its data still, and speaks under another id. The others list
//! the old id without an address, and not as failed, or without a replica: the engine will promote nobody, ever.

use std::collections::BTreeSet;

use shardwright_topology::{
    ConfigEpoch, Flags, Health, Member, NodeId, NodeView, Observed, Role, Server, ServerName,
    SlotSet, Source,
};

use crate::evidence::Gone;
use crate::safety::all_served;
use crate::{Authority, Desired, Manner, Request};

/// How far a server that has data, and no place in the cluster, may be taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Returned {
    /// It was this node, which the others still list: they forget it first, or the server would be told that its slots
    /// are another's, and delete its keys.
    As(NodeId),
    /// Nobody lists an old id any more.
    Free,
}

/// Whether a node's id is lost for good, and the engine does nothing about it: everyone who lists it has no address for
/// it, and nobody holds it to have failed (Valkey 9.1 does), or there is no replica that could be elected.
pub(crate) fn has_lost_id(o: &Observed, node: NodeId) -> bool {
    let mut rows = o.beliefs(node).map(|(_, row)| row);
    let alone = o.replicas_of(node).next().is_none();
    is_unaddressed(o, node) && (alone || rows.all(|row| row.health != Health::Failed))
}

/// Whether everyone who lists a silent node has no address for it.
fn is_unaddressed(o: &Observed, node: NodeId) -> bool {
    let silent = o.member(node).is_some_and(|m| m.source == Source::Others);
    let mut rows = o.beliefs(node).map(|(_, row)| row);
    silent && rows.all(|row| row.flags.has(Flags::NOADDR))
}

/// Whether a person asked for a replica of this primary in its place, and the primary has no address and no link
/// anywhere, by the word of every other primary with slots.
pub(crate) fn given_up(d: &Desired, o: &Observed, primary: NodeId) -> bool {
    let Some(Request::Promote { node, manner }) = &d.request else {
        return false;
    };
    let past = matches!(manner, Manner::Force | Manner::Takeover);
    let replica = o.member(*node).is_some_and(|m| m.primary == Some(primary));
    let silent = o
        .member(primary)
        .is_some_and(|m| m.source == Source::Others);
    let mut voters = o.voters().filter(|m| m.id != primary);
    let heard = voters.all(|m| {
        o.view_of(m.id)
            .is_some_and(|v| v.rows.get(primary).is_some())
    });
    let mut rows = o.beliefs(primary).map(|(_, row)| row);
    let unlinked = rows.all(|row| row.flags.has(Flags::NOADDR) && !row.link_up);
    past && replica && silent && heard && unlinked
}

/// Whether this server's node is one of the cluster that lost its id, with its data: a primary that holds keys, knows
/// nobody, claims nothing that others own, and is recorded, or named by a person, as one that belongs here. Everyone
/// else must be heard, and no replica of the old node be left that could take its place.
pub(crate) fn returned(d: &Desired, o: &Observed, server: &Server) -> Option<Returned> {
    let view = server.view.known()?;
    let own = view.own()?;
    if own.role != Role::Primary || view.server.keys == 0 || view.peers().next().is_some() {
        return None;
    }
    // It lost its slots with its table. Those that we gave it since it has without an epoch.
    if !own.slots.is_empty() && own.epoch != ConfigEpoch(0) {
        return None;
    }
    let recorded = server.recorded_id.filter(|id| *id != view.id);
    let belongs = match d.authority {
        Authority::Managed => o.formed.is_some() && recorded.is_some(),
        Authority::Guest => named(d, &server.name),
    };
    if !belongs || o.servers().values().any(|s| s.view.known().is_none()) {
        return None;
    }
    let silent: Vec<&Member> = o
        .members()
        .values()
        .filter(|m| m.source == Source::Others)
        .collect();
    if outweighed(d, o, server) {
        return None;
    }
    if silent.is_empty() {
        // Whoever owns a slot by a better claim would have its keys deleted here, be it without any itself.
        let lone = |id: NodeId| o.view_of(id).is_some_and(|v| v.peers().next().is_none());
        let yields = |id: NodeId| id == view.id || d.consent.lose_data && lone(id);
        let mut slots = own.slots.slots();
        let free = slots.all(|s| o.owner(s).is_some_and(yields));
        return free.then_some(Returned::Free);
    }
    let was = *silent.iter().find(|m| m.role == Role::Primary)?;
    // A replica of it that lives nowhere takes nobody's place.
    let gone = |m: &Member| m.primary == Some(was.id) && Gone::prove(d, o, m.id).is_some();
    if !silent.iter().all(|m| m.id == was.id || gone(m)) {
        return None;
    }
    let same = d.authority == Authority::Guest || recorded == Some(was.id);
    let mut slots = own.slots.slots();
    let theirs = |id| id == view.id || id == was.id;
    let fits = slots.all(|s| o.owner(s).is_none_or(theirs));
    let alone = o.replicas_of(was.id).all(gone);
    let takes = same && fits && alone && !was.slots.is_empty() && is_unaddressed(o, was.id);
    takes.then_some(Returned::As(was.id))
}

/// Whether a person gave up what this server holds beside those who serve its slots: a primary that lost its table of nodes,
/// and claims only slots whose owners have their places in the cluster, a greater epoch, and no fewer keys. Once it is met
/// the engine drops its keys, and it is a replica.
pub(crate) fn yields(d: &Desired, o: &Observed, server: &Server) -> bool {
    let recorded = server.recorded_id.is_some() && o.formed.is_some();
    let ours = d.authority == Authority::Managed && recorded && d.consent.lose_data;
    let Some(view) = server.view.known().filter(|_| ours && all_served(o)) else {
        return false;
    };
    let lone = view.peers().next().is_none();
    let Some(own) = view.own().filter(|own| lone && own.role == Role::Primary) else {
        return false;
    };
    let owners: BTreeSet<NodeId> = own.slots.slots().filter_map(|s| o.owner(s)).collect();
    let serves = |id: &NodeId| {
        let placed = o.view_of(*id).is_some_and(|v| v.peers().next().is_some());
        let greater = o.member(*id).is_some_and(|m| m.epoch > own.epoch);
        placed && greater && *id != view.id
    };
    let keys = owners.iter().filter_map(|id| o.view_of(*id));
    let keys: u64 = keys.map(|v| v.server.keys).sum();
    !owners.is_empty() && owners.iter().all(serves) && view.server.keys <= keys
}

/// Another server whose node has keys, and claims some slots that this one's claims, by its own word: where both lost their
/// tables of nodes, none of their claims is older than the other.
pub(crate) fn rival<'a>(o: &'a Observed, server: &Server) -> Option<(&'a Server, &'a NodeView)> {
    rivals(o, server).next()
}

fn rivals<'a>(
    o: &'a Observed,
    server: &Server,
) -> impl Iterator<Item = (&'a Server, &'a NodeView)> {
    let own = server.view.known().and_then(NodeView::own);
    let slots = own.map_or_else(SlotSet::empty, |own| own.slots.clone());
    let name = server.name.clone();
    o.views().filter(move |(other, view)| {
        let own = view.own().filter(|own| own.role == Role::Primary);
        let claims = own.is_some_and(|own| !own.slots.intersection(&slots).is_empty());
        other.name != name && view.server.keys > 0 && claims
    })
}

/// Whether another's claim to some of its slots is as good or better: one that has a place or, where a person said that it
/// is to be so, one with more keys.
fn outweighed(d: &Desired, o: &Observed, server: &Server) -> bool {
    let keys = |view: &NodeView| (view.server.keys, std::cmp::Reverse(view.id));
    let Some(this) = server.view.known() else {
        return true;
    };
    rivals(o, server).any(|(_, view)| {
        let as_lost = view.peers().next().is_none();
        !(as_lost && d.consent.lose_data && keys(this) > keys(view))
    })
}

/// Whether a person named this server as one that is to join.
fn named(d: &Desired, name: &ServerName) -> bool {
    matches!(&d.request, Some(Request::Join { server, .. }) if server == name)
}

/// Slots that no node serves that was heard: what a node holds of them may be all that is left.
pub fn unserved(o: &Observed) -> shardwright_topology::SlotSet {
    let heard = |id: NodeId| o.view_of(id).and_then(NodeView::own);
    let served = |s: shardwright_topology::Slot| {
        let owner = o.owner(s).and_then(heard);
        owner.is_some_and(|own| own.slots.contains(s))
    };
    shardwright_topology::Slot::all()
        .filter(|s| !served(*s))
        .collect()
}
