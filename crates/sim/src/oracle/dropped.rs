//! Whether it is told that acknowledged writes of a former primary are dropped.

use shardwright_topology::{NodeId, Observed};

use crate::model::Model;
use crate::node::Key;
use crate::oracle::COULD_BE_HEARD_MS;

impl Model {
    /// A process that was frozen takes a write. Where another owns its slot by now it will be dropped: but for a process
    /// that became a primary so shortly before it was frozen that nobody could hear of it.
    pub(crate) fn oracle_taken_late(&mut self, seat: usize, key: Key) {
        let Some(id) = self.seats[seat].node.as_ref().map(|n| n.id) else {
            return;
        };
        let frozen = self.oracle.disturbed.get(&seat);
        let promoted = self.oracle.promoted.get(&id);
        let known = promoted.is_none_or(|at| {
            let frozen = frozen.copied().unwrap_or(self.now);
            at + COULD_BE_HEARD_MS < frozen
        });
        if known && self.true_owner(key.0) != Some(id) {
            self.oracle.taken_late.insert(key);
        }
    }

    /// A copy replaced what a node had.
    pub(super) fn note_dropped_late(&mut self, seat: usize, id: NodeId, dropped: &[Key]) {
        let late = |key: &&Key| self.oracle.taken_late.contains(*key);
        let lost = dropped
            .iter()
            .filter(late)
            .filter(|key| !self.held_elsewhere(**key, seat));
        let count = lost.count() as u64;
        if count > 0 {
            self.oracle.dropped_late.push((id, count));
        }
    }

    /// Takes note of what the planner found.
    pub(crate) fn oracle_told_dropped(&mut self, o: &Observed) {
        for dropped in o.dropped_writes.values() {
            let found = (dropped.node, dropped.at);
            self.oracle.told_dropped.insert(found, dropped.writes_max());
        }
    }

    /// How many writes that a frozen process took were dropped, and what of that was not told, or told of fewer.
    pub(crate) fn dropped_late(&self) -> (u64, Vec<String>) {
        let told = |node: NodeId, count: u64| {
            let of_it = self.oracle.told_dropped.iter();
            let mut of_it = of_it.filter(|((id, _), _)| *id == node);
            of_it.any(|(_, most)| most.is_none_or(|most| most >= count))
        };
        let all = &self.oracle.dropped_late;
        let untold = all.iter().filter(|(node, count)| !told(*node, *count));
        let untold = untold.map(|(node, count)| {
            let name = self.name(*node);
            format!("{count} acknowledged writes of {name} were dropped, and nobody was told")
        });
        (all.iter().map(|(_, count)| count).sum(), untold.collect())
    }
}
