//! Slots that were left half moved are closed, in the direction their keys show.

use std::collections::BTreeMap;

use shardwright_topology::{
    Disagreement, Dissent, NodeId, NodeView, OpenSlot, Role, Row, Slot, SlotSet, Source,
};

use crate::draft::Draft;
use crate::evidence::LiveAt;
use crate::safety::{NoMove, holds_stray_keys, why_no_room};
use crate::{Action, Precondition, Reason, Waiting};

/// Who shows a slot open, and towards whom.
#[derive(Default)]
struct Ends {
    migrating: Vec<(NodeId, NodeId)>,
    importing: Vec<(NodeId, NodeId)>,
}

/// Closes every open slot, or moves some more of its keys.
pub(crate) fn close(p: &mut Draft<'_>) {
    let mut open: BTreeMap<Slot, Ends> = BTreeMap::new();
    for (_, view) in p.o.views().filter(|(_, v)| p.is_ours(v.id)) {
        for end in view.open_slots() {
            let ends = open.entry(end.slot()).or_default();
            match end {
                OpenSlot::Migrating { to, .. } => ends.migrating.push((view.id, *to)),
                OpenSlot::Importing { from, .. } => ends.importing.push((view.id, *from)),
            }
        }
    }
    for (slot, ends) in open {
        // Of two processes with one id either may hold keys of it.
        if let Some(two) = p.o.duplicates().first() {
            p.wait(Waiting::OpenSlot {
                slot,
                node: two.node,
            });
            continue;
        }
        close_one(p, slot, &ends);
    }
    outdated_epochs(p);
}

/// Where two nodes exchanged slots, a third that heard it late may hold a slot to be still the one's, whose epoch is
/// greater by now: the owner's claim never wins there, unless it takes a greater one. One at a time.
fn outdated_epochs(p: &mut Draft<'_>) {
    let late = |g: &&Disagreement| {
        let (Some(view), Some(owner)) = (p.o.view_of(g.speaker), p.o.member(g.about)) else {
            return false;
        };
        let wins = |row: &Row| {
            row.id != g.about
                && row.id != g.speaker
                && row.epoch >= owner.epoch
                && !row.slots.intersection(&owner.slots).is_empty()
        };
        // Whoever claims what is another's must not win by it.
        let own = p.o.view_of(g.about).and_then(NodeView::own);
        let honest = own.is_some_and(|own| own.slots.difference(&owner.slots).is_empty());
        let primary = owner.role == Role::Primary;
        g.dissent == Dissent::Slots && primary && honest && view.rows.iter().any(wins)
    };
    let ours = |g: &&Disagreement| p.is_ours(g.speaker) && p.is_ours(g.about);
    let late = p.o.disagreements().iter().filter(ours).find(late);
    let Some(node) = late.map(|g| g.about) else {
        return;
    };
    let raises = |a: &Action| matches!(a, Action::AssignSlot { node, owner, .. } if node == owner);
    let node = who_raises(p, node);
    if knows_epochs(p, node) && !p.steps.iter().any(|s| raises(&s.action)) {
        p.act(Action::RaiseEpoch { node }, Reason::OldBelief);
    }
}

/// Who takes a greater epoch, so that this primary is believed: another first, where this one has the greatest epoch it
/// knows, for then the engine gives it none. Two have one epoch where a replica was elected while its primary took one.
fn who_raises(p: &Draft<'_>, node: NodeId) -> NodeId {
    let epoch = |id| p.o.view_of(id).and_then(NodeView::own).map(|own| own.epoch);
    let known = p.o.view_of(node).into_iter().flat_map(|v| v.rows.iter());
    let greatest = known.map(|row| row.epoch).max();
    let mut others = p.o.voters().map(|m| m.id);
    if epoch(node) < greatest {
        return node;
    }
    // Whoever claims what is another's must not win by it.
    let honest = |id| {
        let own = p.o.view_of(id).and_then(NodeView::own);
        let both = own.zip(p.o.member(id));
        both.is_some_and(|(own, m)| own.slots.difference(&m.slots).is_empty())
    };
    let behind = |id: &NodeId| epoch(*id) < greatest && p.is_ours(*id) && honest(*id);
    others.find(behind).unwrap_or(node)
}

fn close_one(p: &mut Draft<'_>, slot: Slot, ends: &Ends) {
    let Some(owner) = p.o.owner(slot) else { return };
    for (source, target) in &ends.migrating {
        if *source == owner {
            owner_gives(
                p,
                slot,
                owner,
                *target,
                ends.importing.iter().any(|(t, _)| t == target),
            );
        } else {
            // The owner is another already: what is left here follows it.
            leftover(p, slot, *source, owner, Leftover::AtOldOwner);
        }
    }
    for (target, _) in &ends.importing {
        let given = ends
            .migrating
            .iter()
            .any(|(s, t)| *s == owner && t == target);
        if *target == owner {
            if !may_raise_epoch(p, *target) {
                p.wait(Waiting::OpenSlot { slot, node: owner });
                continue;
            }
            p.act(
                Action::AssignSlot {
                    node: *target,
                    slot,
                    owner,
                },
                Reason::AllMoved,
            );
        } else if !given {
            // Nobody gives it: the source was failed over, or never opened. Its owner may have newer values.
            leftover(p, slot, *target, owner, Leftover::AtImporter);
        }
    }
}

/// The owner still has the slot open towards a target.
fn owner_gives(p: &mut Draft<'_>, slot: Slot, owner: NodeId, target: NodeId, imports: bool) {
    let close = Action::CloseSlot { node: owner, slot };
    let Some(receiver) = p.o.member(target) else {
        // Whom it gives to is no member: nobody can have a part of it.
        return p.act(close, Reason::NothingMoved);
    };
    if let Some(heir) = receiver.primary.filter(|_| receiver.role == Role::Replica) {
        // It was failed over. If its copy has nothing, its heir has nothing, unless it says otherwise.
        if heir != owner && keys(p, heir, slot).is_some_and(|keys| keys > 0) {
            // It has what had come to its primary: the move goes on to it, so that clients find every key meanwhile.
            return move_keys(p, slot, owner, heir, true);
        }
        if heir == owner || keys(p, target, slot) != Some(0) {
            return sweep(p, slot, owner);
        }
        let requires = vec![Precondition::HoldsNoKeyOf { node: heir, slot }];
        return p.act_if(close, Reason::NothingMoved, requires);
    }
    let (Some(here), Some(there)) = (keys(p, owner, slot), keys(p, target, slot)) else {
        return p.wait(Waiting::OpenSlot { slot, node: owner });
    };
    let claims = |id| {
        let own = p.o.view_of(id).and_then(|v| v.own());
        own.is_some_and(|own| own.slots.contains(slot))
    };
    match there {
        // Nothing is there: close both ends; nothing moves.
        0 => {
            let requires = vec![Precondition::HoldsNoKeyOf { node: target, slot }];
            if imports {
                let action = Action::CloseSlot { node: target, slot };
                p.act_if(action, Reason::NothingMoved, requires.clone());
            }
            p.act_if(close, Reason::NothingMoved, requires);
        }
        // All is there: the target becomes the owner, at the target first.
        // It may hold it already, with an epoch that does not yet win: then the source is told.
        _ if here == 0 => {
            if !claims(target) && !may_raise_epoch(p, target) {
                return p.wait(Waiting::OpenSlot { slot, node: owner });
            }
            let mut requires = vec![Precondition::HoldsNoKeyOf { node: owner, slot }];
            if is_last(p, owner, slot) {
                let why: Vec<NoMove> =
                    p.o.view_of(owner)
                        .and_then(holds_stray_keys)
                        .into_iter()
                        .collect();
                if !why.is_empty() {
                    return p.wait(Waiting::OpenSlotHeld { slot, why });
                }
                requires.push(Precondition::HoldsNoStrayKey { node: owner });
            }
            let action = Action::AssignSlot {
                node: if claims(target) { owner } else { target },
                slot,
                owner: target,
            };
            p.act_if(action, Reason::AllMoved, requires);
        }
        // Half is there. The source still gives the slot, so it was not failed over since: its values win.
        _ => move_keys(p, slot, owner, target, true),
    }
}

/// Whether a node owns no other slot: without this one it copies another node, and drops all that it holds.
fn is_last(p: &Draft<'_>, owner: NodeId, slot: Slot) -> bool {
    let slots = p.o.member(owner).map(|m| &m.slots);
    slots.is_none_or(|slots| slots.slots().all(|s| s == slot))
}

/// The receiver was failed over: what it had taken in is at one of the other primaries, if anywhere. It goes back to the owner; once nobody else has a key, the slot is closed.
fn sweep(p: &mut Draft<'_>, slot: Slot, owner: NodeId) {
    let others: Vec<NodeId> =
        p.o.voters()
            .map(|m| m.id)
            .filter(|id| *id != owner)
            .collect();
    let held: Option<Vec<(NodeId, u64)>> = others
        .iter()
        .map(|id| Some((*id, keys(p, *id, slot)?)))
        .collect();
    let Some(held) = held else {
        return p.wait(Waiting::OpenSlot { slot, node: owner });
    };
    if let Some((holder, _)) = held.iter().find(|(_, n)| *n > 0) {
        return move_keys(p, slot, *holder, owner, false);
    }
    let requires = others
        .iter()
        .map(|node| Precondition::HoldsNoKeyOf { node: *node, slot })
        .collect();
    p.act_if(
        Action::CloseSlot { node: owner, slot },
        Reason::NothingMoved,
        requires,
    );
}

/// Whether a node may take a slot with an epoch of its own choice: one node at a time, and only while everyone agrees on
/// who owns what. Of two who choose at once, one may choose the lower, and the others keep the slot where it was for ever.
///
/// What the speaker imports is left out: it takes no claim on such a slot from anyone. What it gives away is not: with
/// a greater epoch it would take it back, and the receiver would delete its keys.
pub(crate) fn may_raise_epoch(p: &Draft<'_>, node: NodeId) -> bool {
    let raises = |a: &Action| match a {
        Action::AssignSlot {
            node: other, owner, ..
        } => other == owner && *other != node,
        _ => false,
    };
    let differ = |g: &Disagreement| {
        let view = p.o.view_of(g.speaker);
        let row = view.and_then(|v| v.rows.get(g.about));
        let imports = view.map_or_else(SlotSet::empty, imports);
        let slots = row.zip(p.o.member(g.about)).is_none_or(|(row, m)| {
            let differs = row.slots.difference(&m.slots);
            let differs = differs.union(&m.slots.difference(&row.slots));
            !differs.difference(&imports).is_empty()
        });
        g.dissent == Dissent::Slots && slots && p.is_ours(g.speaker) && p.is_ours(g.about)
    };
    knows_epochs(p, node)
        && !p.steps.iter().any(|s| raises(&s.action))
        && !p.o.disagreements().iter().any(differ)
}

/// Whether a node knows the epochs of all primaries that were heard: else the one it takes may be less than theirs.
fn knows_epochs(p: &Draft<'_>, node: NodeId) -> bool {
    let Some(view) = p.o.view_of(node) else {
        return false;
    };
    let mut heard = p.o.voters().filter(|m| m.source == Source::Itself);
    heard.all(|m| view.rows.get(m.id).is_some_and(|row| row.epoch >= m.epoch))
}

/// The slots that a node imports.
pub(crate) fn imports(view: &NodeView) -> SlotSet {
    let open = view.own().into_iter().flat_map(|own| &own.open);
    open.filter(|end| matches!(end, OpenSlot::Importing { .. }))
        .map(|end| end.slot())
        .collect()
}

#[derive(Clone, Copy)]
enum Leftover {
    AtOldOwner,
    AtImporter,
}

/// Keys of the slot at a node that does not own it go to the owner, which is never overwritten.
fn leftover(p: &mut Draft<'_>, slot: Slot, node: NodeId, owner: NodeId, which: Leftover) {
    match (keys(p, node, slot), p.o.view_of(owner)) {
        (None, _) | (_, None) => p.wait(Waiting::OpenSlot { slot, node }),
        (Some(0), Some(_)) => {
            let requires = vec![Precondition::HoldsNoKeyOf { node, slot }];
            let action = match which {
                Leftover::AtOldOwner => Action::AssignSlot { node, slot, owner },
                Leftover::AtImporter => Action::CloseSlot { node, slot },
            };
            p.act_if(action, Reason::AllMoved, requires);
        }
        (Some(_), Some(_)) => move_keys(p, slot, node, owner, false),
    }
}

/// Moves some keys of a slot that is half moved, where the receiver has room for all that are left.
fn move_keys(p: &mut Draft<'_>, slot: Slot, from: NodeId, to: NodeId, replace: bool) {
    let left: SlotSet = [slot].into_iter().collect();
    let why = why_no_room(p.d, p.o, to, &[(from, left)]);
    if !why.is_empty() {
        return p.wait(Waiting::OpenSlotHeld { slot, why });
    }
    let Some(to) = LiveAt::prove(p.o, to) else {
        return;
    };
    let requires = vec![Precondition::LivesAt {
        node: to.node(),
        address: to.address().clone(),
    }];
    let keys_max = p.l.keys_per_pass_max;
    p.act_if(
        Action::MoveKeys {
            from,
            to,
            slot,
            keys_max,
            replace,
        },
        Reason::HalfMoved,
        requires,
    );
}

/// How many keys of the slot a node holds, if it was asked.
fn keys(p: &Draft<'_>, node: NodeId, slot: Slot) -> Option<u64> {
    p.o.view_of(node)?.keys_in_slot.get(&slot).copied()
}
