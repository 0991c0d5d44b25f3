//! Nodes of another cluster that was met: whether they are, and whether a node of ours may take back what they took.

use shardwright_topology::{Health, NodeId, NodeView, Replication, Role, Server, SlotSet};

use super::{Lint, ViolationKind};
use crate::{Action, Authority, Precondition, Step};

/// Who answered no longer ago than this lives, also where its link is just made anew, in milliseconds.
const LIVED_WITHIN_MS: u64 = 3_000;

impl Lint<'_> {
    /// Whether a node lives, and neither a server, a record, a table on a disk nor the memory of this cluster knows it as
    /// one of its own, though every server is known by its word or by its record.
    pub(super) fn is_of_another_cluster(&self, node: NodeId) -> bool {
        let managed = self.d.authority == Authority::Managed && self.o.formed.is_some();
        let mut views = self.o.servers().values().filter_map(|s| s.view.known());
        let lives = views.any(|v| {
            let newest = v.rows.iter().map(|row| row.pong_received_ms).max();
            v.rows.get(node).is_some_and(|row| {
                let pong = row.pong_received_ms;
                let silent_ms = newest.map(|at| at.saturating_sub(pong));
                let answered = pong > 0 && silent_ms.is_some_and(|ms| ms < LIVED_WITHIN_MS);
                row.health == Health::Fine && (row.link_up || answered)
            })
        });
        let another = |s: &Server| {
            let said = s.view.known().map(|v| v.id);
            let last = s.last_heard.as_ref().map(|v| v.id);
            let on_disk = s.disk_row.as_ref().map(|row| row.id);
            let known = match said {
                Some(id) => !self.is_doubled(id),
                None => s.recorded_id.is_some_and(|id| self.is_still(s, id, node)),
            };
            known && ![said, s.recorded_id, last, on_disk].contains(&Some(node))
        };
        let remembered = self.o.former.contains_key(&node) || self.o.holdings.contains_key(&node);
        let doubled = self.is_doubled(node);
        managed && lives && !remembered && !doubled && self.all.servers().values().all(another)
    }

    /// Whether a server without a view has still the node that was recorded there, and not this one: while the recorded node
    /// owns slots, one that took its place may not be recorded yet, and whom others look for there may be newer.
    fn is_still(&self, server: &Server, recorded: NodeId, node: NodeId) -> bool {
        let owner = self.o.members().get(&recorded);
        let owns = owner.is_some_and(|m| !m.slots.is_empty());
        let views = self.all.servers().values().filter_map(|s| s.view.known());
        let mut rows = views.filter_map(|v| v.rows.get(node));
        let at = server.address.known();
        let placed = rows.any(|row| at.is_some_and(|at| row.address.same_socket(at)));
        !owns && !placed && !self.is_doubled(recorded)
    }

    /// Whether ours may forget a node of another cluster, or leave it, although it lives: by consent, or since every slot
    /// that it owns, or that the node which it follows owns, was owned by one of ours by what is remembered.
    pub(super) fn may_be_parted_from(&self, node: NodeId) -> bool {
        let member = |id: NodeId| self.o.members().get(&id);
        let head = member(node).and_then(|m| m.primary);
        let once_ours = |slot| self.once_ours.contains(slot);
        let taken = |id: NodeId| member(id).is_none_or(|m| m.slots.slots().all(once_ours));
        let known = taken(node) && head.is_none_or(taken);
        self.is_of_another_cluster(node) && (known || self.d.consent.lose_data)
    }

    /// A node owns its shard's slots again only past a node of another cluster that it follows, with the data that it had
    /// before, and only those slots: it takes all that its table gives to that node.
    pub(super) fn takes_back(&mut self, i: usize, node: NodeId, from: NodeId) {
        let view = self.o.view_of(node);
        let own = view.and_then(NodeView::own);
        if !own.is_some_and(|own| own.role == Role::Replica && own.primary == Some(from)) {
            self.fatal(i, ViolationKind::NotItsReplica { node });
        }
        if !self.is_of_another_cluster(from) {
            self.fatal(i, ViolationKind::PrimaryNotDead { primary: from });
        }
        if !view.is_some_and(|view| self.kept_its_stream(view)) {
            self.fatal(i, ViolationKind::NoCopy { replica: node });
        }
        let before = self.o.holdings.get(&node);
        let head = before.and_then(|before| self.o.holdings.get(&before.primary?));
        let shard = head
            .or(before)
            .map_or_else(SlotSet::empty, |h| h.slots.clone());
        let row = view.and_then(|v| v.rows.get(from));
        let slots = row.map_or_else(SlotSet::empty, |row| row.slots.difference(&shard));
        if !slots.is_empty() {
            self.fatal(i, ViolationKind::SlotsOwned { slots });
        }
    }

    /// A copy of the other cluster may be done at any time: whoever takes slots back is asked right before whether it has
    /// still what it is remembered to have had.
    pub(super) fn reads_again(&mut self, i: usize, step: &Step) {
        let Action::TakeBack { own } = &step.action else {
            return;
        };
        let at = own.node();
        let before = self.o.holdings.get(&at);
        let reads = |required: &Precondition| match required {
            Precondition::HoldsDataOf {
                node,
                stream,
                keys_min,
            } => before.is_some_and(|before| {
                let had = before.stream.as_ref().is_some_and(|had| had.id == *stream);
                *node == at && had && (*keys_min > 0 || before.keys == 0)
            }),
            _ => false,
        };
        if !step.requires.iter().any(reads) {
            self.fatal(i, ViolationKind::TakesBackUnread { node: at });
        }
    }

    /// Who follows a node of another cluster may be the last that has the data of its shard, until every slot is owned by
    /// nodes that answered, or its own data is gone: its link is up, so that it has the other's.
    pub(super) fn may_be_the_last(&self, node: NodeId) -> bool {
        let Some(view) = self.o.view_of(node) else {
            return false;
        };
        let follows = view.own().and_then(|own| own.primary);
        let link_up = matches!(
            view.server.replication,
            Replication::Replica { link_up: true, .. }
        );
        let had_keys = self.o.holdings.get(&node).is_some_and(|h| h.keys > 0);
        let emptied = had_keys && view.server.keys == 0 && !view.server.loading;
        let replaced = emptied || link_up && !self.kept_its_stream(view);
        let Some(foreign) = follows.filter(|id| self.is_of_another_cluster(*id)) else {
            return false;
        };
        let left = replaced && self.may_be_parted_from(foreign);
        !left && !self.all_owned()
    }

    /// Whether a node may become a new one without data: every server was heard, and is a replica's, or blank; it follows a
    /// node of another cluster from which ours may part, or another of ours that does; neither it nor any other of its shard
    /// has its own data; and another of ours stays what it is.
    pub(super) fn may_begin_anew(&mut self, node: NodeId) -> bool {
        let consents = self.d.consent.lose_data;
        let all_answer = self.o.servers().values().all(|s| s.view.known().is_some());
        let replica = |v: &NodeView| v.own().is_some_and(|own| own.role == Role::Replica);
        let all_follow = self.o.views().all(|(_, v)| replica(v) || v.is_blank());
        let follows = |id: NodeId| self.o.view_of(id).and_then(|v| v.own()?.primary);
        let first = follows(node);
        let heads = [first, first.and_then(follows)].into_iter().flatten();
        let foreign: Vec<NodeId> = heads.filter(|id| self.is_of_another_cluster(*id)).collect();
        let parts = foreign
            .first()
            .is_some_and(|id| self.may_be_parted_from(*id));
        let before = |id: &NodeId| self.o.holdings.get(id);
        let head = before(&node).and_then(|before| before.primary);
        let head = head.unwrap_or(node);
        let shard = self.o.holdings.iter().filter(|(id, held)| {
            (**id == head || held.primary == Some(head)) && self.o.members().contains_key(*id)
        });
        let replaced = |id: NodeId| {
            let known = before(&id).is_some_and(|before| before.stream.is_some());
            let told = |v: &NodeView| consents || known && v.server.stream.is_some();
            let view = self.o.view_of(id);
            view.is_some_and(|v| told(v) && !self.kept_its_stream(v))
        };
        let lost = replaced(node) && (consents || shard.map(|(id, _)| *id).all(replaced));
        let views = self.o.views().filter(|(_, v)| replica(v)).count();
        let may = (all_answer || consents) && all_follow && parts && lost;
        self.begun.insert(node);
        may && self.begun.len() < views
    }

    /// Whether a node has the stream, or one that continues it, that it is remembered to have had, and keys, if it had
    /// some: a failed copy leaves the stream, and nothing else.
    fn kept_its_stream(&self, view: &NodeView) -> bool {
        let before = self.o.holdings.get(&view.id);
        let had = before.and_then(|before| before.stream.as_ref());
        let has = view.server.stream.as_ref();
        let emptied = view.server.keys == 0 && before.is_some_and(|before| before.keys != 0);
        !emptied
            && had.zip(has).is_some_and(|(had, has)| {
                let continued = has.before.as_ref().is_some_and(|(id, _)| *id == had.id);
                has.id == had.id || continued
            })
    }
}
