//! Whether a node may leave, and a server be taken away.

use shardwright_topology::{NodeId, NodeView, Server, ServerName};

use super::{Lint, ViolationKind};
use crate::{Authority, Request, Shape};

impl Lint<'_> {
    pub(super) fn asked_to_leave(&self, node: NodeId) -> bool {
        matches!(&self.d.request, Some(Request::Leave { node: n }) if *n == node)
    }

    /// Whether a node may be taken out of the cluster: a person asked for it, or its server is the last of too many, and
    /// its shard has the replicas that it should have on servers that stay.
    pub(super) fn may_leave(&self, node: NodeId) -> bool {
        if self.asked_to_leave(node) {
            return true;
        }
        let (Some(view), Some(server)) = (self.o.view_of(node), self.o.server_of(node)) else {
            return false;
        };
        let Some(wanted) = self.wanted().filter(|_| self.is_too_many(server)) else {
            return false;
        };
        let followed = |v: &NodeView| v.own().is_some_and(|own| own.primary == Some(node));
        if self.o.views().any(|(_, v)| followed(v)) || !self.all_owned() {
            return false;
        }
        let Some(primary) = view.own().and_then(|own| own.primary) else {
            return true; // what a primary holds is for `may_drop` to see
        };
        let stay = self
            .o
            .views()
            .filter(|(s, _)| u64::from(s.place.leave_rank) < wanted.0);
        let copies = stay
            .filter(|(_, v)| self.copies(v.id) == Some(primary))
            .count();
        copies >= usize::from(wanted.1)
    }

    /// How many servers are wanted, and how many replicas of each shard, where servers may be taken away at all.
    pub(super) fn wanted(&self) -> Option<(u64, u16)> {
        match (self.d.authority, self.d.shape) {
            (
                Authority::Managed,
                Shape::Declared {
                    shards,
                    replicas_per_shard,
                },
            ) if self.o.formed.is_some() => {
                let each = 1 + u64::from(replicas_per_shard);
                Some((u64::from(shards) * each, replicas_per_shard))
            }
            _ => None,
        }
    }

    fn is_too_many(&self, server: &Server) -> bool {
        let count = u64::try_from(self.o.servers().len()).unwrap_or(u64::MAX);
        let rank = u64::from(server.place.leave_rank);
        self.wanted()
            .is_some_and(|(wanted, _)| rank >= wanted && count > wanted)
    }

    /// A server is taken away only if it is one too many, and so are all behind it, and each says that it is nothing, or
    /// said so last and was told to end; and if nobody lists one of them, nor the node that is recorded there.
    pub(super) fn removes(&mut self, i: usize, name: &ServerName) {
        let rank = |s: &Server| (s.place.leave_rank, s.name.clone());
        let safe = self.o.servers().get(name).is_some_and(|s| {
            let mut behind = self.o.servers().values().filter(|b| rank(b) >= rank(s));
            let stays = s.view.known().is_none() || s.leaving || !self.is_too_many(s);
            !stays && behind.all(|b| self.is_nothing(b))
        });
        if !safe {
            let server = name.clone();
            self.fatal(i, ViolationKind::TakesAway { server });
        }
    }

    fn is_nothing(&self, s: &Server) -> bool {
        let last = s.last_heard.as_deref().filter(|_| s.leaving);
        let view = s.view.known().or(last);
        view.filter(|v| v.is_blank()).is_some_and(|blank| {
            let known = |v: &NodeView, id: NodeId| v.id == id || v.rows.get(id).is_some();
            let others = self.o.servers().values().filter(|o| o.name != s.name);
            let mut views = others.filter_map(|other| other.view.known());
            !views.any(|v| known(v, blank.id) || s.recorded_id.is_some_and(|id| known(v, id)))
        })
    }
}
