//! Slots that are given out: nobody owns them, and nobody else holds their keys.

use std::collections::BTreeSet;

use shardwright_topology::{ConfigEpoch, NodeId, NodeView, Role, Row, Server, Slot, SlotSet};

use super::{Lint, ViolationKind};
use crate::{Authority, Request};

/// What is known of the keys of a slot.
enum Keys {
    /// Somebody was not heard, or has keys and did not count them.
    Unknown,
    /// At these.
    At(BTreeSet<NodeId>),
}

impl Lint<'_> {
    pub(super) fn adds(&mut self, i: usize, node: NodeId, slots: &SlotSet) {
        let owned: SlotSet = slots
            .slots()
            .filter(|s| self.o.owner(*s).is_some())
            .collect();
        if !owned.is_empty() {
            self.fatal(i, ViolationKind::SlotsOwned { slots: owned });
        }
        self.gives(i, node, slots);
    }

    /// A node is told that it owns a slot itself. Where nobody owns it, that gives the slot out.
    pub(super) fn takes(&mut self, i: usize, node: NodeId, slot: Slot) {
        if self.o.owner(slot).is_none() {
            self.gives(i, node, &[slot].into_iter().collect());
        }
    }

    fn gives(&mut self, i: usize, node: NodeId, slots: &SlotSet) {
        let twice = self.given.intersection(slots);
        if !twice.is_empty() {
            self.fatal(i, ViolationKind::SlotsTwice { slots: twice });
        }
        self.given = self.given.union(slots);
        let forming = self.o.formed.is_none()
            && (self.d.authority == Authority::Managed
                || matches!(self.d.request, Some(Request::Form { .. })));
        // With consent a cluster that holds nothing any more is formed anew.
        let empty = |s: &Server| s.view.known().is_some_and(|v| v.server.keys == 0);
        let anew = self.d.consent.lose_data && self.o.servers().values().all(empty);
        if forming || anew {
            return;
        }
        let mut unkeyed = Vec::new();
        let mut unknown = Vec::new();
        let mut kept = Vec::new();
        for slot in slots.slots() {
            match self.keys(slot) {
                Keys::Unknown => unknown.push(slot),
                Keys::At(holders) if holders.is_empty() => unkeyed.push(slot),
                Keys::At(holders) if self.may_have(node, &holders) => {}
                Keys::At(_) => kept.push(slot),
            }
        }
        if !unknown.is_empty() {
            let slots = unknown.into_iter().collect();
            self.fatal(i, ViolationKind::GivesUpData { slots });
        }
        if !kept.is_empty() {
            let slots = kept.into_iter().collect();
            self.fatal(i, ViolationKind::GivesPastHolder { slots });
        }
        let slots = self.of_the_unseen(unkeyed);
        if !slots.is_empty() {
            self.fatal(i, ViolationKind::GivesPastForgotten { slots });
        }
    }

    /// Of slots without a key those that a node may own which no server that was heard knows. A person may give them up;
    /// of a cluster of ours every server is known.
    fn of_the_unseen(&self, unkeyed: Vec<Slot>) -> SlotSet {
        let mut slots: SlotSet = unkeyed.into_iter().collect();
        if self.d.consent.lose_data || self.d.authority == Authority::Managed {
            return SlotSet::empty();
        }
        let servers = self.o.servers().values();
        let views: Vec<&NodeView> = servers.filter_map(|s| s.view.known()).collect();
        let own: Vec<&Row> = views.iter().filter_map(|v| v.own()).collect();
        let primary = |row: &&&Row| row.role == Role::Primary;
        let lone = |v: &&NodeView| v.server.keys > 0 && v.peers().next().is_none();
        if let [view] = views.as_slice()
            && lone(view)
            && own.iter().any(|row| row.epoch == ConfigEpoch(0))
        {
            return slots;
        }
        // Whom somebody still holds to be the owner, and who is here; or who was forgotten for its place was taken.
        slots = slots.difference(&self.o.orphaned);
        for row in views.iter().flat_map(|v| v.rows.iter()) {
            if own.iter().filter(primary).any(|own| own.id == row.id) {
                slots = slots.difference(&row.slots);
            }
        }
        let least = own.iter().filter(primary).map(|row| row.slots.count());
        let least = least.filter(|count| *count > 0).min();
        // Each epoch was taken by one node: those that no primary here has may be its replicas'.
        let current = views.iter().map(|v| v.cluster.current_epoch.0).max();
        let epochs = own.iter().filter(primary).map(|row| row.epoch.0);
        let epochs: BTreeSet<u64> = epochs.filter(|epoch| *epoch > 0).collect();
        let replicas = own.iter().filter(|row| row.role == Role::Replica).count();
        let all_here = current.is_some_and(|epochs_taken| {
            usize::try_from(epochs_taken).is_ok_and(|n| n <= epochs.len() + replicas)
        });
        if all_here && least.is_some_and(|least| slots.count() < least) {
            return SlotSet::empty();
        }
        slots
    }

    fn keys(&self, slot: Slot) -> Keys {
        let mut at = BTreeSet::new();
        for server in self.o.servers().values() {
            let Some(view) = server.view.known() else {
                return Keys::Unknown;
            };
            match view.keys_in_slot.get(&slot) {
                _ if view.server.keys == 0 => {}
                Some(0) => {}
                Some(_) => {
                    at.insert(view.id);
                }
                None => return Keys::Unknown,
            }
        }
        let speaks = |id: &NodeId| self.o.view_of(*id).is_some();
        if self.o.members().keys().all(speaks) {
            Keys::At(at)
        } else {
            Keys::Unknown
        }
    }

    /// The node has keys, and beside it only its replicas, or a person agreed.
    fn may_have(&self, node: NodeId, holders: &BTreeSet<NodeId>) -> bool {
        let copies = |id: &NodeId| {
            let own = self.o.view_of(*id).and_then(NodeView::own);
            *id == node || own.is_some_and(|own| own.primary == Some(node))
        };
        let alone = holders.iter().all(copies) || self.d.consent.lose_data;
        holders.contains(&node) && alone
    }
}
