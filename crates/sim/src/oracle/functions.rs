//! What the oracle asks of libraries of functions.

use shardwright_topology::{CodeDigest, NodeId};

use super::COULD_BE_HEARD_MS;
use crate::model::Model;

impl Model {
    /// Whoever gets its first slots has the libraries of functions that all owners of slots have with the same code.
    pub(super) fn judge_first_slots(&mut self, to: NodeId) {
        let nodes = self.seats.iter().filter(|s| s.running && !s.foreign);
        let nodes = nodes.filter_map(|s| s.node.as_ref());
        let votes = |n: &&crate::node::Node| n.me().votes();
        let owners = nodes.clone().filter(votes).map(|n| n.libraries.clone());
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
