//! Who may take a failed primary's place by itself: not a replica that takes its first copy.
//!
//! The engine elects by offsets, and one that begins to follow shows that of its former life until its copy is done
//! (`fact_a_first_copy_is_elected`).

use shardwright_topology::{Flags, NodeId, NodeView, Role};

use crate::draft::Draft;
use crate::evidence::in_sync;
use crate::{Action, Authority, Reason};

/// Holds a node back before it begins to follow a primary that has keys. Its steps are taken in their order, and none
/// after one that failed.
pub(crate) fn hold_back(p: &mut Draft<'_>, node: NodeId, primary: NodeId) {
    let view = |id| p.o.view_of(id);
    let has_keys = view(primary).is_none_or(|v| v.server.keys > 0);
    if has_keys && !view(node).is_some_and(never_elects) {
        let electable = false;
        p.act(Action::SetElectable { node, electable }, Reason::CopyBegins);
    }
}

/// Replicas with a proved copy may take their primary's place again, and so may whoever has become a primary. In a cluster
/// that is not ours, only those that we held back: others may be meant to be so.
pub(crate) fn release(p: &mut Draft<'_>) {
    let moves = |s: &crate::Step| {
        matches!(
            s.action,
            Action::Replicate { .. } | Action::SetElectable { .. }
        )
    };
    let about: Vec<NodeId> = p
        .steps
        .iter()
        .filter(|s| moves(s))
        .filter_map(|s| s.action.at())
        .collect();
    let ready: Vec<NodeId> =
        p.o.views()
            .filter(|(_, view)| never_elects(view) && has_place(view) && in_sync(p.o, view))
            .map(|(_, view)| view.id)
            .filter(|id| p.d.authority == Authority::Managed || p.o.held_back.contains(id))
            .filter(|id| p.is_ours(*id) && !about.contains(id))
            .collect();
    for node in ready {
        let electable = true;
        p.act(Action::SetElectable { node, electable }, Reason::CopyDone);
    }
}

/// Whether a node is set not to take its primary's place by itself.
pub(crate) fn never_elects(view: &NodeView) -> bool {
    view.own()
        .is_some_and(|own| own.flags.has(Flags::NOFAILOVER))
}

/// Whether it is a replica, or a primary with slots: one without may be about to follow another.
fn has_place(view: &NodeView) -> bool {
    view.own()
        .is_some_and(|own| own.role == Role::Replica || !own.slots.is_empty())
}
