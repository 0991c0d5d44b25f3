//! Whether whoever we promote ever had the keys that are given up with the one it replaces.

use shardwright_topology::NodeId;

use crate::model::{Model, Persistence};
use crate::node::Node;

impl Model {
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
