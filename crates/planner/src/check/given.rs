//! Slots that are given out: nobody owns them, and nobody else holds their keys.

use std::collections::BTreeSet;

use shardwright_topology::{NodeId, NodeView, Server, Slot, SlotSet};

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
        let mut unknown = Vec::new();
        let mut kept = Vec::new();
        for slot in slots.slots() {
            match self.keys(slot) {
                Keys::Unknown => unknown.push(slot),
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

    /// Nobody has keys, or the node has, and beside it only its replicas, or a person agreed.
    fn may_have(&self, node: NodeId, holders: &BTreeSet<NodeId>) -> bool {
        let copies = |id: &NodeId| {
            let own = self.o.view_of(*id).and_then(NodeView::own);
            *id == node || own.is_some_and(|own| own.primary == Some(node))
        };
        let alone = holders.iter().all(copies) || self.d.consent.lose_data;
        holders.is_empty() || holders.contains(&node) && alone
    }
}
