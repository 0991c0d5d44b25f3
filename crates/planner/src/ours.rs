//! Which servers belong to the cluster, which may join, and which are foreign.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{NodeId, NodeView, Observed, Server, ServerName};

use crate::waiting::Foreign;
use crate::{Authority, Desired, Request};

/// How a server stands to the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It belongs to the cluster.
    Member,
    /// It is blank, or was left behind by a forming that was broken off, and may join.
    MayJoin,
    /// It must not be touched.
    Foreign(Foreign),
    /// It was asked to leave.
    Leaving,
    /// It was not heard, so nothing can be said.
    Unheard,
}

impl Standing {
    /// Whether the planner may act on it as on one of the cluster's own.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Member | Self::MayJoin)
    }
}

/// How every server stands to the cluster.
///
/// The cluster is the island (nodes that know one another) that owns the most slots. A node belongs to it when it
/// is in it, or when the runtime recorded that it was. A blank node may join when we run it or someone asked for it.
pub fn standings(d: &Desired, o: &Observed) -> BTreeMap<ServerName, Standing> {
    let main = main_island(o);
    o.servers()
        .values()
        .map(|s| (s.name.clone(), standing(d, o, &main, s)))
        .collect()
}

fn main_island(o: &Observed) -> BTreeSet<NodeId> {
    let slots = |island: &BTreeSet<NodeId>| -> u32 {
        island
            .iter()
            .filter_map(|id| o.member(*id))
            .map(|m| u32::from(m.slots.count()))
            .sum()
    };
    let mut best = BTreeSet::new();
    let mut most = (0, 0);
    for island in o.islands() {
        let size = (slots(&island), island.len());
        // A lone node without slots is no cluster.
        if size > most && (size.0 > 0 || size.1 > 1) {
            most = size;
            best = island;
        }
    }
    best
}

fn standing(d: &Desired, o: &Observed, main: &BTreeSet<NodeId>, server: &Server) -> Standing {
    let Some(view) = server.view.known() else {
        return Standing::Unheard;
    };
    let leaving = matches!(&d.request, Some(Request::Leave { node }) if *node == view.id);
    if leaving && (main.contains(&view.id) || view.is_blank()) {
        return Standing::Leaving;
    }
    let recorded = d.authority == Authority::Managed && server.recorded_id == Some(view.id);
    if main.contains(&view.id) && main.len() > 1 {
        return Standing::Member;
    }
    if view.is_blank() {
        return if wanted(d, server) {
            Standing::MayJoin
        } else {
            Standing::Foreign(Foreign::NotAsked)
        };
    }
    if recorded && !overlaps(o, view) {
        return Standing::Member;
    }
    if let Some(what) = foreign(d, o, main, view) {
        return Standing::Foreign(what);
    }
    if main.contains(&view.id) {
        Standing::Member
    } else {
        Standing::MayJoin
    }
}

/// Whether we run this server, or someone asked for it by name.
fn wanted(d: &Desired, server: &Server) -> bool {
    match (&d.authority, &d.request) {
        (_, Some(Request::Form { order })) => order.contains(&server.name),
        (Authority::Managed, _) => true,
        (Authority::Guest, Some(Request::Join { server: asked, .. })) => *asked == server.name,
        (Authority::Guest, _) => false,
    }
}

/// Whether the node claims a slot that another owns by a better claim.
fn overlaps(o: &Observed, view: &NodeView) -> bool {
    view.own()
        .is_some_and(|own| own.slots.slots().any(|s| o.owner(s) != Some(view.id)))
}

/// Why a node that is neither blank nor of the main island does not belong, unless it is a leftover of a forming.
fn foreign(d: &Desired, o: &Observed, main: &BTreeSet<NodeId>, view: &NodeView) -> Option<Foreign> {
    let others = view.peers().filter(|r| !main.contains(&r.id)).count();
    if others > 0 {
        return Some(Foreign::KnowsOthers { nodes: others });
    }
    let forming =
        d.authority == Authority::Managed || matches!(d.request, Some(Request::Form { .. }));
    let alone_as_found = !forming && main.contains(&view.id);
    if view.server.keys > 0 && !alone_as_found {
        return Some(Foreign::HoldsKeys {
            keys: view.server.keys,
        });
    }
    let slots = view.own().map(|own| own.slots.clone())?;
    (overlaps(o, view) || !(forming || main.contains(&view.id)))
        .then_some(Foreign::OwnsSlots { slots })
}
