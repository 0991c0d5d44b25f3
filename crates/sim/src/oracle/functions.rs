//! What the oracle asks of libraries of functions.

use shardwright_topology::{CodeDigest, NodeId, SlotSet};

use super::COULD_BE_HEARD_MS;
use crate::model::Model;
use crate::node::Node;

impl Model {
    /// The owners of slots that live.
    fn owners(&self) -> impl Iterator<Item = &Node> + Clone {
        let nodes = self.seats.iter().filter(|s| s.running && !s.foreign);
        let nodes = nodes.filter_map(|s| s.node.as_ref());
        nodes.filter(|n| n.me().votes())
    }

    /// The first library of which this owner of slots alone has the code that it has.
    fn alone_at(&self, owner: &Node) -> Option<String> {
        let others = || self.owners().filter(|n| n.id != owner.id);
        let alone = |(name, code): &(&String, &CodeDigest)| {
            others().all(|n| n.libraries.get(*name) != Some(*code))
        };
        owner
            .libraries
            .iter()
            .find(alone)
            .map(|(name, _)| name.clone())
    }

    /// Whether an owner of slots has a library, or a code of one, that no other has.
    pub(crate) fn has_functions_alone(&self) -> bool {
        self.owners().any(|n| self.alone_at(n).is_some())
    }

    /// Whoever gives its last slots away has no library that no other owner of slots has, or no other with this code: it
    /// becomes a replica, and takes those of its primary.
    pub(super) fn judge_last_slots(&mut self, from: NodeId, slots: &SlotSet) {
        let gives = |n: &&Node| n.id == from && n.me().slots.difference(slots).is_empty();
        let alone = self.owners().find(gives).and_then(|n| self.alone_at(n));
        if let Some(library) = alone {
            let name = self.name(from);
            self.accuse(format!(
                "{name} gives its last slots away, and alone has library {library}"
            ));
        }
    }

    /// Whoever gets its first slots has the libraries of functions that all owners of slots have with the same code.
    pub(super) fn judge_first_slots(&mut self, to: NodeId) {
        let nodes = self.seats.iter().filter(|s| s.running && !s.foreign);
        let nodes = nodes.filter_map(|s| s.node.as_ref());
        let owners = self.owners().map(|n| n.libraries.clone());
        let same = owners.reduce(|same, theirs| {
            let both = |(name, code): &(String, CodeDigest)| theirs.get(name) == Some(code);
            same.into_iter().filter(both).collect()
        });
        let lacks = nodes.filter(|n| n.id == to && !n.me().votes()).any(|n| {
            // One that was just started again may have lost them since it was looked at.
            let mut same = same.iter().flatten();
            same.any(|(name, code)| n.libraries.get(name) != Some(code))
                && self.now > n.started + COULD_BE_HEARD_MS
        });
        if lacks {
            let name = self.name(to);
            self.accuse(format!("{name} gets slots, and lacks functions"));
        }
    }
}
