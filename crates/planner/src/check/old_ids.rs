//! Ids that nobody answers to any more: their server lost its table of nodes, and speaks under another.

use shardwright_topology::{Flags, Health, NodeId, NodeView, Observed, Role, Row, Seen, Server};

use super::Lint;
use crate::{Authority, Manner, Request};

impl Lint<'_> {
    /// A person asked for this replica in the place of a primary to which nobody has a link or knows a way, by the word
    /// of every other primary.
    pub(super) fn may_be_passed(&self, replica: NodeId, primary: NodeId) -> bool {
        let asked = match &self.d.request {
            Some(Request::Promote { node, manner }) => {
                *node == replica && *manner != Manner::Switchover
            }
            _ => false,
        };
        let mut others = self
            .o
            .members()
            .values()
            .filter(|m| m.id != primary && m.role == Role::Primary && !m.slots.is_empty());
        let heard = |id| {
            self.o
                .view_of(id)
                .is_some_and(|v| v.rows.get(primary).is_some())
        };
        asked && others.all(|m| heard(m.id)) && unaddressed(self.o, primary, |row| !row.link_up)
    }

    /// A person gave up the data of a node of others, which has failed by everyone's word, and which nobody copies;
    /// everyone else was heard.
    pub(super) fn is_given_up(&self, node: NodeId) -> bool {
        let asked = self.d.consent.lose_data && self.d.authority == Authority::Guest;
        let views = || self.o.servers().values().filter_map(|s| s.view.known());
        let speaks = |id: NodeId| views().any(|v| v.id == id);
        let rows = || views().flat_map(|v| v.rows.iter());
        let mut others = rows().filter(|row| row.id != node && row.is_member());
        let about = rows().filter(|row| row.id == node);
        let failed = about
            .map(|row| row.health == Health::Failed && !row.link_up)
            .reduce(|all, one| all && one);
        asked
            && !speaks(node)
            && failed == Some(true)
            && others.all(|row| speaks(row.id) && row.primary != Some(node))
    }

    /// Whether two nodes that are made to meet would empty one of them unasked: it knows nobody, has keys, and claims slots
    /// that a node of the cluster claims by more. By a person's word it may, where those who serve have as many.
    pub(super) fn loses_to_the_cluster(&self, node: NodeId) -> bool {
        let views = || self.all.servers().values().filter_map(|s| s.view.known());
        let lone = |v: &NodeView| v.peers().next().is_none();
        // One that speaks as itself only comes back, and follows who took its place.
        let anew = |s: &&Server| s.recorded_id.is_some_and(|id| id != node);
        let anew = self.all.servers().values().filter(anew);
        let mut speak = anew.filter_map(|s| s.view.known());
        let Some(view) = speak.find(|v| v.id == node && lone(v)) else {
            return false;
        };
        let Some(own) = view.own().filter(|own| own.role == Role::Primary) else {
            return false;
        };
        let takes = |v: &&NodeView| {
            let theirs = v.own().filter(|own| own.role == Role::Primary);
            let more = theirs.filter(|theirs| theirs.epoch > own.epoch);
            !lone(v) && more.is_some_and(|row| !row.slots.intersection(&own.slots).is_empty())
        };
        let kept: u64 = views().filter(takes).map(|v| v.server.keys).sum();
        let given_up = self.d.consent.lose_data && view.server.keys <= kept;
        view.server.keys > 0 && views().any(|v| takes(&v)) && !given_up
    }

    /// The server of this node speaks as another, lone one with keys, and claims at most what the old one had; nobody
    /// copies the old one; and everyone else was heard.
    pub(super) fn came_back_as_another(&self, node: NodeId) -> bool {
        let known = |s: &Server| matches!(s.view, Seen::Known(_));
        if !self.all.servers().values().all(known) || !unaddressed(self.all, node, |_| true) {
            return false;
        }
        let views = || self.all.servers().values().filter_map(|s| s.view.known());
        let heard = |id: NodeId| views().any(|other| other.id == id);
        // Every server of ours is another's: a replica of it that none is takes nobody's place.
        let gone = |row: &Row| {
            let managed = self.d.authority == Authority::Managed;
            let its = |v: &NodeView| v.rows.get(row.id).is_some_and(|r| r.primary == Some(node));
            managed && !heard(row.id) && views().any(its)
        };
        let follows = |v: &NodeView| {
            let mut rows = v.rows.iter().filter(|row| !gone(row));
            rows.any(|row| row.primary == Some(node))
        };
        let speaks = heard(node);
        let unheard = |v: &NodeView| {
            let mut peers = v.peers().filter(|row| row.id != node && !gone(row));
            peers.any(|row| !heard(row.id))
        };
        if speaks || views().any(|v| follows(v) || unheard(v)) {
            return false;
        }
        let others_own = |me: NodeId, row: &Row| {
            let own = views().filter(|v| v.id != me).filter_map(NodeView::own);
            own.into_iter()
                .any(|own| !own.slots.intersection(&row.slots).is_empty())
        };
        self.all.servers().values().any(|s| {
            let asked =
                matches!(&self.d.request, Some(Request::Join { server, .. }) if *server == s.name);
            let belongs = match self.d.authority {
                Authority::Managed => s.recorded_id == Some(node),
                Authority::Guest => asked,
            };
            let Some(view) = s.view.known().filter(|v| belongs && v.server.keys > 0) else {
                return false;
            };
            let own = view.own().filter(|own| own.role == Role::Primary);
            view.peers().next().is_none() && own.is_some_and(|own| !others_own(view.id, own))
        })
    }
}

/// Whether nobody who lists this node has an address of it.
fn unaddressed(o: &Observed, node: NodeId, also: fn(&Row) -> bool) -> bool {
    let views = o.servers().values().filter_map(|s| s.view.known());
    let mut rows = views.filter_map(|v| v.rows.get(node)).peekable();
    rows.peek().is_some() && rows.all(|row| row.flags.has(Flags::NOADDR) && also(row))
}
