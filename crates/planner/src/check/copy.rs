//! Whether a replica that a plan relies on holds its primary's data: seen anew, from the observation alone.

use shardwright_topology::{
    Address, Disk, Flags, Host, NodeId, NodeView, Process, Replication, Seen, Why,
};

use super::{Lint, ViolationKind};
use crate::evidence::Dead;

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
        let last = last.or_else(|| self.o.former.get(&primary));
        let too_few = last.and_then(|v| view.server.databases_max.zip(v.server.databases_max));
        if too_few.is_some_and(|(has, wants)| has < wants) {
            return false;
        }
        let linked = self.o.linked.get(&replica) == Some(&primary);
        // Without a link this much is what would be continued: after a copy that failed, nothing.
        let has_read = *link_up || *offset > 1;
        let by_word = match last {
            Some(v) if v.server.keys == 0 => true,
            Some(v) if another_stream(v, view) => has_read && linked && !link_up,
            Some(v) if lists_online(v, self.address_of(replica).as_ref()) => {
                has_read || view.server.keys > 0
            }
            Some(v) if v.server.stream.is_some() && view.server.stream.is_some() => has_read,
            Some(_) | None => {
                let link = *link_up && !self.another_is_there(view, primary);
                let linked = linked && !self.another_shard_has_its_stream(view);
                has_read && (linked || link || self.lost_its_own_link(view))
            }
        };
        by_word || self.nothing_is_left(primary) && view.server.keys > 0
    }

    /// Whether a replica lost a link in this run, no other shard has the stream that it has, and it is not held back
    /// from elections until it has a copy.
    fn lost_its_own_link(&self, view: &NodeView) -> bool {
        if view.server.stream.is_none() || self.another_shard_has_its_stream(view) {
            return false;
        }
        let waits = view
            .own()
            .is_some_and(|own| own.flags.has(Flags::NOFAILOVER));
        let Some(ago) = view.server.link_lost_s else {
            return false;
        };
        // By its own table: whose slots it has keys of, and whether its primary still spoke after the link was lost.
        let others_keys = match &view.stray_keys {
            Seen::Known(strays) => !strays.is_empty(),
            Seen::Unknown(_) => view.server.keys > 0,
        };
        let primary = view.own().and_then(|own| own.primary);
        let pongs = || view.rows.iter().map(|row| (row.id, row.pong_received_ms));
        let latest = pongs().map(|(_, at)| at).max();
        let spoke = latest.is_some_and(|latest| {
            let lost = latest.saturating_sub(ago * 1_000);
            pongs().any(|(id, at)| Some(id) == primary && at > lost + 3_000)
        });
        !others_keys && !spoke && !waits
    }

    /// Whether what a replica has read is what another shard's node has read or written, by the last word of that.
    fn another_shard_has_its_stream(&self, view: &NodeView) -> bool {
        let Some(stream) = view.server.stream.as_ref() else {
            return false;
        };
        let shard = |v: &NodeView| v.own().map(|own| own.primary.unwrap_or(v.id));
        let theirs = |v: &NodeView| {
            // Until its first copy is done, a replica has read nothing of the shard that it is in.
            let waits = v.own().is_some_and(|own| own.flags.has(Flags::NOFAILOVER));
            let takes = match v.server.replication {
                Replication::Replica {
                    syncing, link_up, ..
                } => syncing || waits && !link_up,
                Replication::Primary { .. } => false,
            };
            let has = v.server.stream.as_ref();
            let same = has.is_some_and(|s| {
                s.id == stream.id || s.before.as_ref().is_some_and(|(id, _)| *id == stream.id)
            });
            shard(v) != shard(view) && !takes && !v.server.loading && same
        };
        self.o.servers().values().any(|s| match &s.view {
            Seen::Known(v) => theirs(v),
            Seen::Unknown(_) => s.last_heard.as_deref().is_some_and(theirs),
        })
    }

    /// Whether another node than its primary is known to answer where a replica copies from.
    fn another_is_there(&self, view: &NodeView, primary: NodeId) -> bool {
        let Replication::Replica { primary: from, .. } = &view.server.replication else {
            return false;
        };
        self.o
            .servers()
            .values()
            .any(|s| match (&s.address, &s.view) {
                (Seen::Known(at), Seen::Known(v)) => at.same_socket(from) && v.id != primary,
                (Seen::Known(at), Seen::Unknown(Why::Strange(_))) => {
                    at.same_socket(from) && matches!(s.process, Process::Dead(_))
                }
                _ => false,
            })
    }

    /// Whether a node that is told anew to follow its primary has keys that this one has not: it may have lost them.
    pub(super) fn empties_its_own(&self, node: NodeId, primary: NodeId) -> bool {
        let (Some(view), Some(of)) = (self.o.view_of(node), self.o.view_of(primary)) else {
            return false;
        };
        let again = view.own().is_some_and(|own| own.primary == Some(primary));
        let has = |v: &NodeView| v.server.keys > 0;
        again && has(view) && !has(of) && !self.d.consent.lose_data && !self.has_anothers(view, of)
    }

    /// Whether its keys are those of a node that lives, writes and is not its primary: it reads that one's stream now.
    fn has_anothers(&self, replica: &NodeView, primary: &NodeView) -> bool {
        let Replication::Replica {
            primary: from,
            link_up: true,
            syncing: false,
            ..
        } = &replica.server.replication
        else {
            return false;
        };
        let stream = |v: &NodeView| v.server.stream.as_ref().map(|s| s.id.clone());
        let read = stream(replica).filter(|_| !replica.server.loading);
        let mut servers = self.o.servers().values();
        read.is_some()
            && servers.any(|s| match (&s.address, &s.view) {
                (Seen::Known(at), Seen::Known(v)) => {
                    let writes = matches!(v.server.replication, Replication::Primary { .. });
                    at.same_socket(from) && v.id != primary.id && writes && stream(v) == read
                }
                _ => false,
            })
    }

    /// Whether the primary's directory is certainly gone. Of one without a server that takes a proof of its death: a person's
    /// word that it is given up is none.
    fn nothing_is_left(&self, primary: NodeId) -> bool {
        match self.o.server_of(primary) {
            Some(server) => server.disk == Seen::Known(Disk::Blank) || self.is_anothers(server),
            None => Dead::prove(self.o, primary).is_some(),
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
        let row = view.rows.get(primary);
        let believed = row.map(|row| &row.address);
        let same = |a: &Address| a.host == from.host && a.port == from.port;
        let reached = heard.is_none() || row.is_some_and(|row| row.link_up);
        if given.iter().any(|a| same(a)) || reached && believed.is_some_and(same) {
            return false;
        }
        let at = self.address_of(view.id);
        let listed = heard.is_some_and(|v| match &v.server.replication {
            Replication::Primary { replicas, .. } => replicas
                .iter()
                .any(|r| at.as_ref().is_some_and(|at| at.same_socket(&r.address))),
            Replication::Replica { .. } => false,
        });
        let here = given.iter().any(|a| a.host == from.host)
            || believed.is_some_and(|a| a.host == from.host);
        let goes_on = match &view.server.replication {
            Replication::Replica { link_up: true, .. } => {
                !heard.is_some_and(|of| another_stream(of, view))
            }
            Replication::Replica { syncing, .. } => *syncing || view.server.loading || here,
            Replication::Primary { .. } => false,
        };
        let comparable = |a: &&Address| {
            a.port != 0 && matches!((&a.host, &from.host), (Host::Ip(_), Host::Ip(_)))
        };
        !(listed && goes_on) && given.into_iter().chain(believed).any(|a| comparable(&a))
    }
}

/// Whether what a replica has read is no part of its primary's stream, nor of one that came after that; not so where
/// either does not tell.
pub(super) fn another_stream(primary: &NodeView, replica: &NodeView) -> bool {
    let (Some(of), Some(has)) = (&primary.server.stream, &replica.server.stream) else {
        return false;
    };
    let read = match replica.server.replication {
        Replication::Replica { offset, .. } => offset,
        Replication::Primary { .. } => return true,
    };
    let begins = matches!(&of.before, Some((id, end)) if *id == has.id && read <= *end);
    let goes_on = matches!(&has.before, Some((id, _)) if *id == of.id);
    of.id != has.id && !begins && !goes_on
}

fn lists_online(primary: &NodeView, replica: Option<&Address>) -> bool {
    match (&primary.server.replication, replica) {
        (Replication::Primary { replicas, .. }, Some(at)) => replicas
            .iter()
            .any(|r| r.online && r.address.same_socket(at)),
        (Replication::Primary { .. } | Replication::Replica { .. }, _) => false,
    }
}
