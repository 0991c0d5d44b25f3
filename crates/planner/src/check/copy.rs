//! Whether a replica that a plan relies on holds its primary's data: seen anew, from the observation alone.

use shardwright_topology::{Address, Disk, Host, NodeId, NodeView, Replication, Seen};

use super::{Lint, ViolationKind};

impl Lint<'_> {
    /// Promoting relies on a copy, unless a person accepted the loss.
    pub(super) fn must_hold_copy(&mut self, i: usize, replica: NodeId, primary: NodeId) {
        if !self.d.consent.lose_data && !self.holds_copy(replica, primary) {
            self.fatal(i, ViolationKind::NoCopy { replica });
        }
    }

    /// A replica whose keys may be its primary's: it takes no copy, copies from no strange address, and its stream is its
    /// primary's, or its link was up; nothing better is left where the primary's own directory is lost.
    fn holds_copy(&self, replica: NodeId, primary: NodeId) -> bool {
        let Some(view) = self.o.view_of(replica) else {
            return false;
        };
        let Replication::Replica {
            primary: from,
            link_up,
            syncing,
            offset,
        } = &view.server.replication
        else {
            return false;
        };
        if *syncing || view.server.loading || self.strange_source(view, primary, from) {
            return false;
        }
        let mut servers = self.o.servers().values();
        let last = servers.find_map(|s| match &s.view {
            Seen::Known(view) if view.id == primary => Some(view),
            Seen::Known(_) | Seen::Unknown(_) => {
                s.last_heard.as_deref().filter(|v| v.id == primary)
            }
        });
        let linked = self.o.linked.get(&replica) == Some(&primary);
        let by_word = match last.map(|v| (v, v.server.stream.as_ref())) {
            Some((v, Some(of))) => {
                let mine = view.server.stream.as_ref();
                let before = |id: &String| {
                    let before = of.before.as_ref();
                    before.is_some_and(|(old, end)| old == id && offset <= end)
                };
                linked
                    || mine.is_some_and(|s| s.id == of.id || before(&s.id))
                    || v.server.keys == 0
                    || lists_online(v, self.address_of(replica).as_ref())
            }
            Some((v, None)) => {
                linked || *link_up || v.server.keys == 0 || view.server.link_lost_s.is_some()
            }
            None => linked || *link_up || view.server.link_lost_s.is_some(),
        };
        by_word || self.nothing_is_left(primary)
    }

    /// Whether the primary's directory is certainly gone.
    fn nothing_is_left(&self, primary: NodeId) -> bool {
        match self.o.server_of(primary) {
            Some(server) => matches!(server.disk, Seen::Known(Disk::Blank)),
            None => true,
        }
    }

    fn address_of(&self, node: NodeId) -> Option<Address> {
        self.o.member(node).map(|m| m.address.clone())
    }

    /// Whether a node copies from an IP address and port that nobody gives to its primary: neither the primary itself, nor
    /// its runtime, nor, while it is silent, the replica; and the primary doesn't list it as connected.
    pub(super) fn strange_source(&self, view: &NodeView, primary: NodeId, from: &Address) -> bool {
        let heard = self.o.view_of(primary);
        let server = self.o.server_of(primary);
        let told = heard.or_else(|| server.and_then(|s| s.last_heard.as_deref()));
        let told = told.filter(|v| v.id == primary).and_then(NodeView::own);
        let mut given: Vec<&Address> = told.map(|row| &row.address).into_iter().collect();
        if heard.is_some() {
            given.extend(server.and_then(|s| s.address.known()));
        }
        let believed = view.rows.get(primary).map(|row| &row.address);
        let same = |a: &Address| a.host == from.host && a.port == from.port;
        if given.iter().any(|a| same(a)) || heard.is_none() && believed.is_some_and(same) {
            return false;
        }
        let at = self.address_of(view.id);
        let listed = heard.is_some_and(|v| match &v.server.replication {
            Replication::Primary { replicas, .. } => replicas
                .iter()
                .any(|r| at.as_ref().is_some_and(|at| at.same_socket(&r.address))),
            Replication::Replica { .. } => false,
        });
        let comparable = |a: &&Address| {
            a.port != 0 && matches!((&a.host, &from.host), (Host::Ip(_), Host::Ip(_)))
        };
        !listed && given.into_iter().chain(believed).any(|a| comparable(&a))
    }
}

fn lists_online(primary: &NodeView, replica: Option<&Address>) -> bool {
    match (&primary.server.replication, replica) {
        (Replication::Primary { replicas, .. }, Some(at)) => replicas
            .iter()
            .any(|r| r.online && r.address.same_socket(at)),
        (Replication::Primary { .. } | Replication::Replica { .. }, _) => false,
    }
}
