//! Whether whoever we promote ever had the keys that are given up with the one it replaces.

use shardwright_topology::NodeId;

use crate::model::{Model, Persistence};
use crate::node::Node;
use crate::oracle::COULD_BE_HEARD_MS;

impl Model {
    /// No replica that began without its primary's newest data is elected past that primary once it is back: it was seen
    /// without a copy, and could be held back.
    pub(crate) fn judge_election(&mut self, past: NodeId, heir: usize) {
        let Some(home) = self.home(past).filter(|i| self.seats[*i].running) else {
            return;
        };
        let (primary, replica) = (&self.seats[home], &self.seats[heir]);
        let (Some(theirs), Some(mine)) = (&primary.node, &replica.node) else {
            return;
        };
        let began_without = primary.died_before.is_some_and(|at| at < mine.started);
        let seen = mine.started + COULD_BE_HEARD_MS;
        let back = theirs.is_primary() && seen < theirs.started;
        let held = theirs.data.len();
        let away = |until: u64| until > 0 && theirs.started <= until + COULD_BE_HEARD_MS;
        let disturbed = self.oracle.disturbed.get(&heir);
        let operator_away = away(self.oracle.operator_down_until)
            || away(self.oracle.deaf_until)
            || away(self.oracle.cut_until)
            || !self.operator_cut.is_empty()
            || disturbed.is_some_and(|at| *at > seen && *at + COULD_BE_HEARD_MS > theirs.started);
        let ours = self.oracle.managed && !self.oracle.consent && !operator_away;
        if ours && began_without && back && held > 0 {
            let (heir, past) = (self.name(mine.id), self.name(past));
            self.accuse(format!(
                "{heir} began without what {past} has on its disk, and is elected past it when it is back"
            ));
        }
    }

    /// Nobody who never had a copy of a dead primary's data takes its place while that could come back with keys that
    /// nobody else has: it would be emptied as a replica of the one that was promoted.
    pub(super) fn judge_copy(&mut self, dead: NodeId, heir: NodeId) {
        let Some(home) = self.home(dead).filter(|_| !self.oracle.consent) else {
            return;
        };
        let heir_home = self.home(heir);
        let Some(mine) = heir_home.and_then(|i| self.seats[i].node.as_ref()) else {
            return;
        };
        let s = &self.seats[home];
        let returns = s.persistence != Persistence::Off && s.listed && !s.foreign;
        let Some(theirs) = s.node.as_ref().filter(|n| returns && !n.torn) else {
            return;
        };
        let held = if mine.is_primary() {
            mine.promoted_with
        } else {
            mine.copy_of
        };
        if held == Some(dead) || is_of_one_stream(mine, theirs) {
            return;
        }
        let alone = |key: &&crate::node::Key| !self.held_elsewhere(**key, home);
        let keys = theirs.data.iter().filter(alone).count();
        if keys > 0 {
            let (heir, dead) = (self.name(heir), self.name(dead));
            self.accuse(format!(
                "{heir}, which never had a copy of {dead}, is promoted past its {keys} keys"
            ));
        }
    }
}

/// Whether one of the two read the other's stream, or both that which they continued.
fn is_of_one_stream(a: &Node, b: &Node) -> bool {
    let before = |n: &Node| n.replid2.map(|(id, _)| id);
    let both = before(a).is_some() && before(a) == before(b);
    both || a.replid == b.replid || before(a) == Some(b.replid) || before(b) == Some(a.replid)
}
