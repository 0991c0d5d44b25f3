//! Whether what is reset or taken away is needed: keys that nobody else has are lost with it.

use shardwright_topology::{NodeId, ServerName};

use crate::model::Model;

impl Model {
    /// How many keys a primary alone has, whosever their slots are: its owner may have none of them.
    fn alone_with(&self, seat: usize) -> usize {
        let node = self.seats[seat].node.as_ref();
        let keys = node.filter(|node| node.is_primary()).map(|n| &n.data);
        let keys = keys.into_iter().flatten();
        keys.filter(|k| !self.held_elsewhere(**k, seat)).count()
    }

    /// Whoever is taken away must by the truth be nothing: no key, no slot, and nobody that it knows.
    /// A `StatefulSet` loses its last pods: whoever is listed behind a server goes with it.
    pub(super) fn judge_removal(&mut self, server: &ServerName) {
        let Some(at) = self.seats.iter().find(|s| s.name == *server) else {
            return;
        };
        let rank = at.place.leave_rank;
        let behind = self
            .seats
            .iter()
            .filter(|s| s.listed && s.place.leave_rank >= rank);
        let something = behind.filter_map(|s| s.node.as_ref()).find(|node| {
            !node.data.is_empty() || !node.me().slots.is_empty() || node.peers.len() > 1
        });
        if let Some(node) = something {
            let name = self.name(node.id);
            self.accuse(format!("{name} is taken away, and is still something"));
        }
    }

    pub(super) fn judge_reset(&mut self, node: NodeId) {
        let Some(i) = self.home(node) else { return };
        let last = self.needed(i).max(self.alone_with(i));
        if last > 0 {
            let name = self.name(node);
            self.accuse(format!(
                "resetting {name} drops the last copy of {last} keys"
            ));
        }
    }
}
