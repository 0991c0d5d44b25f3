//! Who may take a failed primary's place by itself: not a replica that takes its first copy, nor one whose primary is
//! waited for, or is back.
//!
//! The engine elects by offsets, and one that begins to follow shows that of its former life until its copy is done
//! (`fact_a_first_copy_is_elected`). And it holds a primary to have failed for 2 × node-timeout, although that is back
//! and takes writes meanwhile: a replica that has a link to it is elected past it (`fact_a_returned_primary_is_deposed`).

use shardwright_topology::{Flags, Health, Member, NodeId, NodeView, Observed, Role, Source};

use crate::draft::Draft;
use crate::evidence::in_sync;
use crate::{Action, Authority, Reason, Request};

/// Holds a node back before it begins to follow a primary that has keys. Its steps are taken in their order, and none
/// after one that failed.
pub(crate) fn hold_back(p: &mut Draft<'_>, node: NodeId, primary: NodeId) {
    let view = |id| p.o.view_of(id);
    let has_keys = view(primary).is_none_or(|v| v.server.keys > 0);
    if has_keys && !view(node).is_some_and(never_elects) {
        set_held_back(p, node, Reason::CopyBegins);
    }
}

fn set_held_back(p: &mut Draft<'_>, node: NodeId, because: Reason) {
    let electable = false;
    let hold = Action::SetElectable { node, electable };
    if p.steps.iter().all(|s| s.action != hold) {
        p.act(hold, because);
    }
}

/// Holds replicas of a silent primary back while that one is waited for: without a link to it none is elected, and with
/// one it would be as soon as the primary is back. In a cluster that is not ours its people decide.
pub(crate) fn hold_back_of(p: &mut Draft<'_>, primary: NodeId, who: impl Fn(&NodeView) -> bool) {
    let replicas: Vec<NodeId> =
        p.o.replicas_of(primary)
            .filter_map(|m| p.o.view_of(m.id))
            .filter(|view| !never_elects(view) && who(view))
            .map(|view| view.id)
            .collect();
    hold_back_all(p, replicas, &Reason::PrimaryComesFirst);
}

/// Holds replicas back whose primary was heard, and which still hold it to have failed: where it is reached by most, or
/// will be as soon as they are told where it is now.
pub(crate) fn hold_back_of_the_returned(p: &mut Draft<'_>) {
    let o = p.o;
    let replicas: Vec<NodeId> = o
        .voters()
        .filter(|m| m.source == Source::Itself)
        .flat_map(|primary| o.replicas_of(primary.id).map(move |m| (primary, m.id)))
        .filter_map(|(primary, id)| Some((primary, o.view_of(id)?)))
        .filter(|(_, view)| !never_elects(view) && holds_its_primary_failed(view))
        .filter(|(primary, view)| is_back(p, primary, view))
        .map(|(_, view)| view.id)
        .collect();
    hold_back_all(p, replicas, &Reason::PrimaryIsBack);
}

/// Whether a primary that was heard comes first, although a replica holds it to have failed: most reach it, or one of
/// the two began so lately that nobody has had the time to. A process that begins holds others to have failed as its
/// file says, for 2 × node-timeout; by then it has reached them, or they are cut off from most.
fn is_back(p: &Draft<'_>, primary: &Member, replica: &NodeView) -> bool {
    let lately = |view: &NodeView| {
        let age_ms = view.server.uptime_s.map(|s| s.saturating_mul(1_000));
        age_ms.is_some_and(|age| age <= p.l.node_timeout_ms.saturating_mul(2))
    };
    let began = p.o.view_of(primary.id).is_some_and(lately) || lately(replica);
    began || is_reached(p.o, primary)
}

fn hold_back_all(p: &mut Draft<'_>, replicas: Vec<NodeId>, because: &Reason) {
    for node in replicas {
        if p.d.authority == Authority::Managed && p.is_ours(node) {
            set_held_back(p, node, because.clone());
        }
    }
}

/// Whether a majority of the primaries that own slots, itself among them, has a link to this one.
fn is_reached(o: &Observed, primary: &Member) -> bool {
    let reaches = |m: &&Member| {
        let row = o.view_of(m.id).and_then(|v| v.rows.get(primary.id));
        m.id == primary.id || row.is_some_and(|row| row.link_up)
    };
    o.voters().filter(reaches).count() > o.voters().count() / 2
}

/// Whether a replica holds its primary to have failed: then it stands for election.
pub(crate) fn holds_its_primary_failed(view: &NodeView) -> bool {
    let primary = view.own().and_then(|own| own.primary);
    let row = primary.and_then(|id| view.rows.get(id));
    row.is_some_and(|row| row.health == Health::Failed)
}

/// Replicas with a proved copy of a primary that they do not hold to have failed may take its place again, and so may
/// whoever has become a primary. In a cluster that is not ours, only those that we held back and the one that a person
/// lets join, which an interrupted run may have held back: others may be meant to be so.
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
            .filter(|(_, view)| never_elects(view) && has_place(view))
            .filter(|(_, view)| !holds_its_primary_failed(view) && in_sync(p.o, view))
            .map(|(_, view)| view.id)
            .filter(|id| p.d.authority == Authority::Managed || may_release(p, *id))
            .filter(|id| p.is_ours(*id) && !about.contains(id))
            .collect();
    for node in ready {
        let electable = true;
        p.act(Action::SetElectable { node, electable }, Reason::CopyDone);
    }
}

/// Whether a node of others was held back by us: by this run, or perhaps by one that let it join and was interrupted.
fn may_release(p: &Draft<'_>, node: NodeId) -> bool {
    let name = p.o.server_of(node).map(|s| &s.name);
    let joins = matches!(&p.d.request, Some(Request::Join { server, .. }) if name == Some(server));
    p.o.held_back.contains(&node) || joins
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
