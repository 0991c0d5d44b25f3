//! What the linter asks of slots that move.

use std::collections::BTreeMap;

use shardwright_topology::{NodeId, NodeView, OpenSlot, Role, Seen, Slot, SlotSet};

use super::{Lint, ViolationKind};
use crate::{Action, Authority, Plan, Shape, Standing};

/// The nodes from which slots move, and those to which.
pub(super) fn ends(plan: &Plan) -> Vec<(NodeId, NodeId)> {
    let ends = |action: &Action| match action {
        Action::MoveSlots { from, to, .. } => Some((*from, to.node())),
        _ => None,
    };
    plan.steps.iter().filter_map(|s| ends(&s.action)).collect()
}

impl Lint<'_> {
    /// Slots move only while every slot has an owner that was heard, none is open, and nothing else is done; from whom
    /// all say that he owns them, to a primary of ours that does not itself give any away.
    pub(super) fn moves(&mut self, i: usize, from: NodeId, to: NodeId, slots: &SlotSet) {
        if self.d.moves_paused {
            self.fatal(i, ViolationKind::MovesPaused);
        }
        if !self.all_say_owner(from, slots) {
            let slots = slots.clone();
            self.fatal(i, ViolationKind::MovesUnowned { from, slots });
        }
        let twice = self.given.intersection(slots);
        if !twice.is_empty() {
            self.fatal(i, ViolationKind::SlotsTwice { slots: twice });
        }
        self.given = self.given.union(slots);
        let open = |v: &NodeView| v.own().is_none() || !v.open_slots().is_empty();
        let voters_heard = self.o.voters().all(|m| self.o.view_of(m.id).is_some());
        let unsafe_now = self.o.views().any(|(_, v)| open(v)) || !voters_heard;
        if unsafe_now || !self.all_owned() || !self.o.contested().is_empty() || self.others_act {
            self.fatal(i, ViolationKind::MovesInDisorder);
        }
        let both = self.ends.iter().any(|(giver, _)| *giver == to);
        if both || !self.may_receive(to) {
            self.fatal(i, ViolationKind::MovesToUnfit { node: to });
        }
        self.lacks_functions(i, to);
        let strays = |node: NodeId| self.o.view_of(node).map(|v| &v.stray_keys);
        let has_none = matches!(strays(from), Some(Seen::Known(held)) if held.is_empty());
        let takes = |held: &BTreeMap<Slot, u64>| held.keys().any(|slot| slots.contains(*slot));
        let clean = matches!(strays(to), Some(Seen::Known(held)) if !takes(held));
        if !has_none || !clean {
            let node = if has_none { to } else { from };
            self.fatal(i, ViolationKind::MovesBesideStrayKeys { node });
        }
        for attempt in self.o.attempts.iter().filter(|a| !a.ended) {
            let primary = self.o.member(attempt.node).and_then(|m| m.primary);
            if let Some(node) = primary.filter(|p| [from, to].contains(p)) {
                let by = attempt.node;
                self.fatal(i, ViolationKind::MovesWhilePassed { node, by });
            }
        }
    }

    /// Keys go to a receiver with a memory limit only where what they take was measured and fits below it, together with
    /// what the steps before bring there; or where a person agreed to exceed it.
    pub(super) fn has_room(&mut self, i: usize, from: NodeId, to: NodeId, slots: &SlotSet) {
        let Some(server) = self.o.view_of(to).map(|v| &v.server) else {
            return;
        };
        let limit = match server.maxmemory_bytes {
            None | Some(0) => return,
            Some(_) if self.d.consent.force_memory => return,
            Some(limit) => limit,
        };
        let sizes = self.o.slot_sizes.get(&from);
        let (mut unknown, mut bytes) = (Vec::new(), 0_u64);
        for slot in slots.slots() {
            match sizes.and_then(|sizes| sizes.get(&slot)) {
                Some(size) => bytes = bytes.saturating_add(size.bytes),
                None => unknown.push(slot),
            }
        }
        let (true, Some(used)) = (unknown.is_empty(), server.used_memory_bytes) else {
            let slots = unknown.into_iter().collect();
            return self.fatal(i, ViolationKind::MovesUnmeasured { node: to, slots });
        };
        let comes = self.comes.entry(to).or_default();
        *comes = comes.saturating_add(bytes);
        let (comes, left) = (*comes, limit.saturating_sub(used));
        if bytes > 0 && comes > left {
            self.fatal(
                i,
                ViolationKind::MovesWithoutRoom {
                    node: to,
                    comes,
                    left,
                },
            );
        }
    }

    /// Keys that overwrite others come from the owner, of a slot that it shows to give away; all others go to a node that
    /// says that it owns the slot, or takes it in.
    pub(super) fn moves_keys(
        &mut self,
        i: usize,
        (from, to): (NodeId, NodeId),
        slot: Slot,
        replace: bool,
    ) {
        if self.o.view_of(to).is_none() {
            return; // that it was not heard is told of every step that relies on it
        }
        let own = |id: NodeId| self.o.view_of(id).and_then(NodeView::own);
        let primary = |id: NodeId| own(id).filter(|own| own.role == Role::Primary);
        let safe = if replace {
            let gives =
                |end: &OpenSlot| matches!(end, OpenSlot::Migrating { slot: s, .. } if *s == slot);
            let is_open = primary(from).is_some_and(|own| own.open.iter().any(gives));
            is_open && self.o.owner(slot) == Some(from)
        } else {
            primary(to).is_some_and(|own| own.slots.contains(slot)) && from != to
        };
        if !safe {
            self.fatal(i, ViolationKind::MovesKeysAstray { slot, to });
        }
    }

    /// A primary whose last slot becomes another's copies that one, and drops all that it holds.
    pub(super) fn last_slot_goes(&mut self, i: usize, slot: Slot, owner: NodeId) {
        let giver = self.o.owner(slot).filter(|giver| *giver != owner);
        let Some(view) = giver.and_then(|giver| self.o.view_of(giver)) else {
            return;
        };
        let others = |own: &SlotSet| own.slots().any(|s| s != slot);
        let last = view.own().is_some_and(|own| !others(&own.slots));
        let none = matches!(&view.stray_keys, Seen::Known(held) if held.is_empty());
        if last && !none {
            let kind = ViolationKind::MovesBesideStrayKeys { node: view.id };
            self.fatal(i, kind);
        }
    }

    /// Whether a replica may become a new node, so that it can be the head of a shard: shards are missing, and its own
    /// keeps the replicas that it should have. One at a time.
    pub(super) fn may_be_freed(&self, node: NodeId) -> bool {
        let (Some((servers, replicas)), Some(primary)) = (self.wanted(), self.copies(node)) else {
            return false;
        };
        let others = self.o.views().filter(|(s, v)| {
            let stays = u64::from(s.place.leave_rank) < servers;
            v.id != node && stays && self.copies(v.id) == Some(primary)
        });
        let kept = others.count() >= usize::from(replicas);
        let shards = u64::try_from(self.o.voters().count()).unwrap_or(u64::MAX);
        let fewer = shards * (1 + u64::from(replicas)) < servers;
        kept && fewer && self.alone && self.all_owned()
    }

    /// Whether the node itself, the merge, and everyone who lists it say that these slots are its own.
    fn all_say_owner(&self, node: NodeId, slots: &SlotSet) -> bool {
        let own = self.o.view_of(node).and_then(NodeView::own);
        let claims = own.is_some_and(|own| {
            own.role == Role::Primary && slots.difference(&own.slots).is_empty()
        });
        let wins = slots.slots().all(|s| self.o.owner(s) == Some(node));
        let listed = self
            .o
            .beliefs(node)
            .all(|(_, row)| slots.difference(&row.slots).is_empty());
        claims && wins && listed
    }

    /// Whether a node is a primary of the cluster, with the replicas that it should have. One whose server is too many
    /// only if it has slots already, which it hands over with the rest.
    fn may_receive(&self, node: NodeId) -> bool {
        let own = self.o.view_of(node).and_then(NodeView::own);
        let (Some(own), Some(server)) = (own, self.o.server_of(node)) else {
            return false;
        };
        let member = self.standings.get(&server.name) == Some(&Standing::Member);
        let goes = self.wanted().is_some_and(|(wanted, _)| {
            let many = u64::try_from(self.o.servers().len()).unwrap_or(u64::MAX) > wanted;
            many && u64::from(server.place.leave_rank) >= wanted
        });
        let want = match (self.d.authority, self.d.shape) {
            (
                Authority::Managed,
                Shape::Declared {
                    replicas_per_shard, ..
                },
            ) => usize::from(replicas_per_shard),
            (Authority::Managed | Authority::Guest, Shape::Declared { .. } | Shape::AsFound) => 0,
        };
        let copies = self
            .o
            .views()
            .filter(|(_, v)| self.copies(v.id) == Some(node));
        let role = own.role == Role::Primary && !server.leaving;
        role && member && copies.count() >= want && (!goes || !own.slots.is_empty())
    }
}
