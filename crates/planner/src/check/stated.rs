//! What the linter asks of a person's statement that a primary is dead.

use shardwright_topology::{Health, NodeId, Seen, Server, Why};

use super::Lint;
use crate::{Manner, Request};

impl Lint<'_> {
    /// A person asked for this replica, and said that its primary is dead; no server answers as that primary or in its
    /// place, and no node that is reachable has a good link to it.
    pub(super) fn is_stated_dead(&self, replica: NodeId, primary: NodeId) -> bool {
        let asked = match &self.d.request {
            Some(Request::Promote {
                node,
                manner: Manner::Force | Manner::Takeover,
            }) => *node == replica,
            _ => false,
        };
        let answers = |s: &Server| match &s.view {
            Seen::Known(view) => view.id == primary,
            Seen::Unknown(Why::Denied(_) | Why::Loading | Why::Busy(_) | Why::Strange(_)) => {
                s.recorded_id == Some(primary)
            }
            Seen::Unknown(Why::NotAsked | Why::TimedOut | Why::Refused | Why::Unreachable(_)) => {
                false
            }
        };
        let linked = |(_, view): (&Server, &shardwright_topology::NodeView)| {
            let row = view.rows.get(primary);
            row.is_some_and(|row| row.link_up && row.health == Health::Fine)
        };
        asked
            && self.d.consent.primary_is_dead
            && !self.all.servers().values().any(answers)
            && !self.o.views().any(linked)
    }
}
