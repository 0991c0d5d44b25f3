//! A primary that lost its table of nodes, and has its data still, is taken in under its new id: everyone forgets the
//! old one; it is met and gets the slots that are missing, as any node does; and at last it takes an epoch.

use shardwright_topology::{ConfigEpoch, Member, NodeId, Source};

use crate::draft::Draft;
use crate::evidence::Gone;
use crate::ours::Standing;
use crate::rules::forget::forget_everywhere;
use crate::rules::open_slots::may_raise_epoch;
use crate::waiting::Foreign;
use crate::{Action, Reason};

/// Whether the server of this node speaks under another id, and is about to be taken in.
pub(crate) fn is_returned(p: &Draft<'_>, node: NodeId) -> bool {
    let was = Standing::Foreign(Foreign::Returned { was: node });
    p.standings.values().any(|standing| *standing == was)
}

/// Makes everyone forget the old id. Only then may the server be met: as long as one still gives the slots to the old
/// id, the server would be told so, and delete its keys.
pub(crate) fn forget_old_ids(p: &mut Draft<'_>) {
    let standings = p.standings.values();
    let old: Vec<NodeId> = standings
        .filter_map(|standing| match standing {
            Standing::Foreign(Foreign::Returned { was }) => Some(*was),
            _ => None,
        })
        .collect();
    for node in old {
        if let Some(gone) = Gone::returned(&p.standings, node) {
            forget_everywhere(p, &gone, &Reason::Returned);
        }
    }
}

/// A primary that owns slots without an epoch of its own takes one: anybody with any epoch, who heard of its slots
/// otherwise, would be believed before it. One at a time.
pub(crate) fn give_epoch(p: &mut Draft<'_>) {
    let raises = |a: &Action| matches!(a, Action::RaiseEpoch { .. });
    if p.o.formed.is_none() && p.d.request.is_none() || p.steps.iter().any(|s| raises(&s.action)) {
        return;
    }
    let lacks = |m: &&Member| {
        let view = p.o.view_of(m.id);
        let met = view.is_some_and(|v| v.peers().next().is_some());
        m.epoch == ConfigEpoch(0) && m.source == Source::Itself && met && p.is_ours(m.id)
    };
    let node = p.o.voters().find(lacks).map(|m| m.id);
    if let Some(node) = node.filter(|node| may_raise_epoch(p, *node)) {
        p.act(Action::RaiseEpoch { node }, Reason::NoEpoch);
    }
}
