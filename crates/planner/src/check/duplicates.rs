//! No step is about a node as which two processes answer.

use shardwright_topology::{NodeId, NodeView, Replication, ServerName};

use super::{Lint, ViolationKind};
use crate::Action;

impl Lint<'_> {
    /// Whether two processes gave this id as theirs.
    pub(super) fn is_doubled(&self, node: NodeId) -> bool {
        self.o.duplicates().iter().any(|d| d.node == node)
    }

    /// Neither where the step is taken, nor about whom, may two processes answer.
    pub(super) fn one_process_each(&mut self, i: usize, action: &Action) {
        let mut nodes = self.concerned(action);
        // Whose keys and slots are whose is said by all: by either of the two as well.
        let of_slots = matches!(
            action,
            Action::AddSlots { .. }
                | Action::AssignSlot { .. }
                | Action::CloseSlot { .. }
                | Action::MoveKeys { .. }
                | Action::MoveSlots { .. }
        );
        if of_slots {
            nodes.extend(self.o.duplicates().iter().map(|d| d.node));
        }
        if let Action::Takeover { replica, dead } = action {
            nodes.extend(self.doubled_and_fresher(*replica, dead.node()));
        }
        if let Action::Failover { dead, seen } = action {
            nodes.extend(self.doubled_and_fresher(seen.replica(), dead.node()));
        }
        for node in nodes {
            if self.is_doubled(node) {
                self.fatal(i, ViolationKind::ActsOnDuplicate { node });
                return;
            }
        }
    }

    /// The nodes that a step reads, changes, or relies on.
    fn concerned(&self, action: &Action) -> Vec<NodeId> {
        match action {
            Action::StartServer { server }
            | Action::StartAfresh { server }
            | Action::Recreate { server, .. }
            | Action::Replace { server, .. }
            | Action::RemoveServer { server } => self.living_at(server),
            Action::RecordFormed => Vec::new(),
            Action::SetConfigEpoch { blank, .. } => vec![blank.node()],
            Action::AddSlots { node, .. }
            | Action::CloseSlot { node, .. }
            | Action::SetElectable { node, .. }
            | Action::RaiseEpoch { node } => vec![*node],
            Action::Meet { teller, target } => vec![*teller, target.node()],
            Action::Replicate { node, primary } => {
                let mut all = self.copied_by(node.node());
                all.push(*primary);
                all
            }
            Action::Switchover { replica, primary } => vec![*replica, *primary],
            Action::Failover { dead, seen } => vec![seen.replica(), dead.node()],
            Action::Takeover { replica, dead } => vec![*replica, dead.node()],
            Action::Forget { teller, gone } => vec![*teller, gone.node()],
            Action::Reset { node } => self.copied_by(node.node()),
            Action::AssignSlot { node, owner, .. } => vec![*node, *owner],
            Action::MoveKeys { from, to, .. } | Action::MoveSlots { from, to, .. } => {
                vec![*from, to.node()]
            }
            Action::CopyFunctions { from, to, .. } => vec![*from, *to],
        }
    }

    /// Another replica of the same primary as which two processes answer, one of which has read more.
    fn doubled_and_fresher(&self, replica: NodeId, primary: NodeId) -> Option<NodeId> {
        let offset = |v: &NodeView| match v.server.replication {
            Replication::Replica {
                offset,
                syncing: false,
                ..
            } if !v.server.loading => Some(offset),
            Replication::Replica { .. } | Replication::Primary { .. } => None,
        };
        let id = |v: &NodeView| v.server.stream.as_ref().map(|s| s.id.clone());
        let mine = self.o.view_of(replica)?;
        let beside = |v: &NodeView| {
            let sibling = v.own().is_some_and(|own| own.primary == Some(primary));
            sibling && id(v) == id(mine) && offset(v) > offset(mine)
        };
        let mut views = self.o.views().map(|(_, v)| v);
        let found = views.find(|v| self.is_doubled(v.id) && beside(v));
        found.map(|v| v.id)
    }

    fn living_at(&self, server: &ServerName) -> Vec<NodeId> {
        let Some(server) = self.o.servers().get(server) else {
            return Vec::new();
        };
        let said = server.view.known().map(|v| v.id);
        said.into_iter().chain(server.recorded_id).collect()
    }

    /// A node whose keys are dropped, and whom it has them from: of two originals it is not known which. One without
    /// keys drops nothing.
    fn copied_by(&self, node: NodeId) -> Vec<NodeId> {
        let view = self.o.view_of(node).filter(|v| v.server.keys > 0);
        let primary = view.and_then(|v| v.own()?.primary);
        [node].into_iter().chain(primary).collect()
    }
}
