//! Evidence that a node is of another cluster, and what is left of ours where such nodes took slots.
//!
//! `CLUSTER MEET` of a node of another cluster, with the same passwords, makes two clusters one: of two owners of a slot the
//! one with the greater config epoch stays. A primary that loses all its slots to one node follows that, and copies it; one
//! that loses some deletes their keys at once (`fact_a_met_cluster_takes_slots_by_its_epochs`).

use std::cmp::Reverse;
use std::collections::BTreeSet;

use shardwright_topology::{
    Flags, Health, Holding, Member, NodeId, NodeView, Observed, Replication, Role, Row, Server,
    SlotSet, Source,
};

use super::{LOST_BEFORE_MS, Unburdened, clock, is_nowhere};
use crate::{Authority, Desired, Precondition};

/// Proof that a node is of another cluster: it lives, every server of ours is known to be another node's, and it never was
/// at any of them. Among servers that others run it is never had: any node may be one of theirs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignNode {
    node: NodeId,
}

impl ForeignNode {
    /// The proof, if there is one.
    pub fn prove(d: &Desired, o: &Observed, node: NodeId) -> Option<Self> {
        let managed = d.authority == Authority::Managed;
        (managed && is_foreign(o, node)).then_some(Self { node })
    }

    /// Who.
    pub fn node(&self) -> NodeId {
        self.node
    }
}

/// All nodes of other clusters that nodes of ours list.
pub(crate) fn foreign_nodes(o: &Observed) -> BTreeSet<NodeId> {
    let nodes = o.members().keys().copied();
    nodes.filter(|id| is_foreign(o, *id)).collect()
}

fn is_foreign(o: &Observed, node: NodeId) -> bool {
    o.formed.is_some() && is_unknown(o, node) && is_nowhere(o, node)
}

/// The slots that a node of another cluster owns, or the node of it that it follows, and of which nobody remembers that they
/// were ours: they may have been moved there on purpose, and their only keys be there.
pub(crate) fn slots_not_known_ours(o: &Observed, node: NodeId) -> SlotSet {
    let member = o.member(node);
    let followed = member.and_then(|m| o.member(m.primary?));
    let owned = [member, followed].into_iter().flatten();
    let owned = owned.fold(SlotSet::empty(), |all, m| all.union(&m.slots));
    if owned.is_empty() {
        return owned;
    }
    let ours = o.holdings.values().map(|held| &held.slots);
    ours.fold(owned, |rest, slots| rest.difference(slots))
}

/// Whether ours may part from a node of another cluster although its slots are served by nobody then.
pub(crate) fn may_part(d: &Desired, o: &Observed, node: NodeId) -> bool {
    d.consent.lose_data || slots_not_known_ours(o, node).is_empty()
}

/// Whether a node that others list lives, and is not known to have been at any server of ours: by its own word, by a
/// record, by a table on a disk, or by what is remembered.
pub(crate) fn is_unknown(o: &Observed, node: NodeId) -> bool {
    let answers = |speaker: NodeId, row: &Row| {
        let fine = row.health == Health::Fine && !row.flags.has(Flags::NOADDR);
        // The first links to a node that was just met are replaced: for a moment there is none.
        let lately = || {
            let now = clock(o.view_of(speaker)?)?;
            let pong = Some(row.pong_received_ms).filter(|pong| *pong > 0)?;
            (now.saturating_sub(pong) < LOST_BEFORE_MS).then_some(())
        };
        fine && (row.link_up || lately().is_some())
    };
    let silent = o.member(node).is_some_and(|m| m.source == Source::Others);
    let mut others = o.beliefs(node).filter(|(speaker, _)| *speaker != node);
    let once = o.former.contains_key(&node) || o.holdings.contains_key(&node);
    // One of ours may announce a wrong address, where another of ours answers; who was met was met where it answers itself.
    let elsewhere = |m: &Member| {
        let mut servers = o.servers().values();
        !servers.any(|s| {
            s.address
                .known()
                .is_some_and(|at| at.same_socket(&m.address))
        })
    };
    silent
        && !once
        && o.member(node).is_some_and(elsewhere)
        && others.any(|(speaker, row)| answers(speaker, row))
        && !o.servers().values().any(|s| was_at(s, node))
}

/// Whether a node is known not to have been one of ours: not by what is remembered (where nothing is, it is not known), and at
/// no server of ours by its own word, a record or a table on its disk.
pub(crate) fn was_never_ours(o: &Observed, node: NodeId) -> bool {
    let once = o.former.contains_key(&node) || o.holdings.contains_key(&node);
    let remembers = o.formed.is_some() && !o.holdings.is_empty();
    remembers && !once && !o.servers().values().any(|s| was_at(s, node))
}

/// Whether a node is, or was, at this server, as far as it can be told.
fn was_at(server: &Server, node: NodeId) -> bool {
    let last = server.last_heard.as_ref().map(|v| v.id);
    let on_disk = server.disk_row.as_ref().map(|row| row.id);
    let known = [server.id(), server.recorded_id, last, on_disk];
    known.contains(&Some(node))
}

/// What a node holds now, by its own word.
pub(crate) fn holding(view: &NodeView) -> Holding {
    let own = view.own();
    Holding {
        slots: own.map_or_else(SlotSet::empty, |own| own.slots.clone()),
        primary: own.and_then(|own| own.primary),
        keys: view.server.keys,
        stream: view.server.stream.clone(),
    }
}

/// Whether a node has still the data that it had, or has read on in the same stream: a full copy of another gives it that
/// one's stream once it is done, and not before. But one whose copy failed after it had emptied itself for it, as that of a
/// newer engine does, keeps its own stream, and has no key. Nothing where it is not known what it had.
pub(crate) fn has_its_data(o: &Observed, node: NodeId) -> Option<bool> {
    let before = o.holdings.get(&node)?;
    let now = &o.view_of(node)?.server;
    if before.keys > 0 && now.keys == 0 {
        return Some(false);
    }
    let (before, now) = (before.stream.as_ref()?, now.stream.as_ref()?);
    Some(now.id == before.id || now.continues(before))
}

/// Whether a node that follows a foreign one has nothing of its own any more: its copy is done, for its link is up; or it
/// has emptied itself for one.
pub(crate) fn has_foreign_data(o: &Observed, follower: &NodeView) -> bool {
    let done = matches!(
        follower.server.replication,
        Replication::Replica {
            link_up: true,
            syncing: false,
            ..
        }
    );
    let emptied = follower.server.keys == 0 && !follower.server.loading;
    match has_its_data(o, follower.id) {
        Some(true) => false,
        Some(false) => done || emptied,
        None => done,
    }
}

/// The slots that the shard of a node owned, as far as that is remembered: its own, or its primary's.
fn slots_of_its_shard(o: &Observed, node: NodeId) -> Option<&SlotSet> {
    let before = o.holdings.get(&node)?;
    let primary = before.primary.and_then(|id| o.holdings.get(&id));
    let shard = primary.unwrap_or(before);
    (!shard.slots.is_empty()).then_some(&shard.slots)
}

/// Proof that a node of ours may own its shard's slots again, which a foreign node took: it follows that one, has still the
/// data that it had before, and its table gives that one no slot that was not its shard's. For the engine lets it take
/// all slots of the node that it follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnData {
    node: NodeId,
    from: NodeId,
    stream: String,
    keys_min: u64,
}

impl OwnData {
    /// The proof, if there is one.
    pub fn prove(d: &Desired, o: &Observed, node: NodeId) -> Option<Self> {
        let view = o.view_of(node).filter(|_| !o.has_duplicate(node))?;
        let own = view.own().filter(|own| own.role == Role::Replica)?;
        let from = ForeignNode::prove(d, o, own.primary?)?.node;
        let taken = &view.rows.get(from)?.slots;
        let shard = slots_of_its_shard(o, node)?;
        let theirs = taken.slots().all(|slot| o.owner(slot) == Some(from));
        let fits = !taken.is_empty() && taken.difference(shard).is_empty() && theirs;
        let kept = has_its_data(o, node) == Some(true) && !view.server.loading;
        let before = o.holdings.get(&node).filter(|_| fits && kept)?;
        Some(Self {
            node,
            from,
            stream: before.stream.as_ref()?.id.clone(),
            keys_min: u64::from(before.keys > 0),
        })
    }

    /// What has to be so still right before it owns them: a copy that is done meanwhile would leave it the foreign data, to
    /// be served as ours.
    pub(crate) fn requires(&self) -> Vec<Precondition> {
        let node = self.node;
        vec![
            Precondition::IsReplicaOf {
                node,
                primary: self.from,
            },
            Precondition::HoldsDataOf {
                node,
                stream: self.stream.clone(),
                keys_min: self.keys_min,
            },
        ]
    }

    /// The replica of this foreign node that is to own its shard's slots again: who owned some last comes first. What is
    /// remembered as held may be older than a failover.
    pub fn best(d: &Desired, o: &Observed, from: NodeId) -> Option<Self> {
        let owned = |id| o.holdings.get(&id).is_some_and(|h| !h.slots.is_empty());
        let replicas = o.replicas_of(from).map(|m| m.id);
        let fit = replicas.filter_map(|id| Self::prove(d, o, id));
        let gave = |id: &NodeId| Reverse(o.gave_all.get(id).copied());
        fit.min_by_key(|proof| (gave(&proof.node), !owned(proof.node), proof.node))
    }

    /// Who.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The foreign node that it follows.
    pub fn foreign(&self) -> NodeId {
        self.from
    }
}

/// Proof that a node of ours has nothing but a foreign node's data: it copied that one, or another of ours that did, and all
/// of its shard, each of which was heard, have not their own data any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnlyForeignData {
    node: Unburdened,
    primary: NodeId,
}

impl OnlyForeignData {
    /// The proof, if there is one. With consent to lose data, it is enough that its copy is done, and that it is not known to
    /// be its own.
    pub fn prove(d: &Desired, o: &Observed, node: NodeId) -> Option<Self> {
        let view = o.view_of(node).filter(|_| !o.has_duplicate(node))?;
        let own = view.own().filter(|own| own.role == Role::Replica)?;
        let primary = own.primary?;
        let next = || o.member(primary)?.primary;
        let mut heads = [Some(primary), next()].into_iter().flatten();
        let foreign = heads.any(|id| ForeignNode::prove(d, o, id).is_some());
        let consents = d.consent.lose_data;
        let lost = |id: NodeId| has_its_data(o, id).map_or(consents, |kept| !kept);
        let all_lost = || consents || its_shard(o, node).all(lost);
        let only = foreign && has_foreign_data(o, view) && lost(node) && all_lost();
        let node = Unburdened::prove(o, node).filter(|_| only)?;
        Some(Self { node, primary })
    }

    /// Who.
    pub fn node(&self) -> NodeId {
        self.node.node()
    }

    /// Whom it follows.
    pub fn primary(&self) -> NodeId {
        self.primary
    }

    /// The proof that it may drop what it has.
    pub fn unburdened(&self) -> Unburdened {
        self.node.clone()
    }
}

/// The nodes that were in a node's shard, itself among them, as far as that is remembered, and that are listed still.
fn its_shard(o: &Observed, node: NodeId) -> impl Iterator<Item = NodeId> {
    let before = o.holdings.get(&node).and_then(|before| before.primary);
    let head = before.unwrap_or(node);
    let shard = o.holdings.iter().filter(move |(id, before)| {
        let its = **id == head || before.primary == Some(head);
        its && o.member(**id).is_some()
    });
    shard.map(|(id, _)| *id)
}
