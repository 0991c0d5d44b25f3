//! Keys that a primary holds of slots that it does not own go to the owners of those slots: nobody reaches them where
//! they are, and they would go with their node.

use shardwright_topology::{NodeId, NodeView, Role, Seen, Slot, SlotSet};

use crate::draft::Draft;
use crate::evidence::LiveAt;
use crate::safety::{NoMove, why_no_room};
use crate::{Action, Precondition, Reason, Waiting};

/// How many slots of one node are begun in one pass: a step asks a few questions, so this is a second's work at most.
const SLOTS_AT_ONCE: usize = 64;

/// Carries such keys, without ever overwriting one, and says what is left. Where the slot is open, that is closed first.
pub(crate) fn carry(p: &mut Draft<'_>) {
    // Of two processes with one id either may own the slot, or hold keys of it.
    if !p.o.duplicates().is_empty() {
        return;
    }
    let open: SlotSet =
        p.o.views()
            .flat_map(|(_, v)| v.open_slots().iter().map(|end| end.slot()))
            .collect();
    let holders: Vec<&NodeView> =
        p.o.views()
            .map(|(_, v)| v)
            .filter(|v| p.belongs(v.id) && is_primary(v))
            .collect();
    for view in holders {
        let Seen::Known(strays) = &view.stray_keys else {
            continue;
        };
        let closed = strays.iter().filter(|(slot, _)| !open.contains(**slot));
        let (mut slots, mut keys, mut begun) = (Vec::new(), 0_u64, 0);
        let mut why: Vec<NoMove> = Vec::new();
        for (slot, count) in closed {
            let Some(owner) = p.o.owner(*slot).filter(|owner| *owner != view.id) else {
                continue; // whose slot it is comes first
            };
            slots.push(*slot);
            keys = keys.saturating_add(*count);
            if begun >= SLOTS_AT_ONCE {
                continue;
            }
            let full = why_full(p, *slot, view.id, owner);
            if !full.is_empty() {
                why.extend(full);
            } else if carry_one(p, *slot, view.id, owner) {
                begun += 1;
            }
        }
        if !slots.is_empty() {
            p.wait(Waiting::StrayKeys {
                node: view.id,
                keys,
                slots: slots.into_iter().collect(),
                why: in_short(why),
            });
        }
    }
}

/// Why the owner has no room for the keys of this slot, beside those that the steps before bring there.
fn why_full(p: &Draft<'_>, slot: Slot, from: NodeId, owner: NodeId) -> Vec<NoMove> {
    let comes = |action: &Action| match action {
        Action::MoveKeys { from, to, slot, .. } if to.node() == owner => {
            Some((*from, [*slot].into_iter().collect()))
        }
        _ => None,
    };
    let before = p.steps.iter().filter_map(|s| comes(&s.action));
    let this = (from, [slot].into_iter().collect());
    let coming: Vec<(NodeId, SlotSet)> = before.chain([this]).collect();
    why_no_room(p.d, p.o, owner, &coming)
}

/// Each reason once; of slots that were not measured, all together.
fn in_short(why: Vec<NoMove>) -> Vec<NoMove> {
    let mut out: Vec<NoMove> = Vec::new();
    for reason in why {
        let known = out.iter_mut().find_map(|have| match (have, &reason) {
            (NoMove::SizeUnknown { node, slots }, NoMove::SizeUnknown { node: n, .. })
                if node == n =>
            {
                Some(slots)
            }
            _ => None,
        });
        match (known, &reason) {
            (Some(slots), NoMove::SizeUnknown { slots: more, .. }) => *slots = slots.union(more),
            _ => out.push(reason),
        }
    }
    out.dedup();
    out
}

fn is_primary(view: &NodeView) -> bool {
    view.own().is_some_and(|own| own.role == Role::Primary)
}

/// The owner has to say itself that it owns the slot: then it takes the keys.
fn carry_one(p: &mut Draft<'_>, slot: Slot, from: NodeId, owner: NodeId) -> bool {
    let own = p.o.view_of(owner).and_then(NodeView::own);
    let claims = own.is_some_and(|own| own.role == Role::Primary && own.slots.contains(slot));
    let known =
        p.o.view_of(from)
            .is_some_and(|v| v.rows.get(owner).is_some());
    let contested = p.o.contested().contains(slot);
    let Some(to) = LiveAt::prove(p.o, owner).filter(|_| claims && known && !contested) else {
        return false;
    };
    let requires = vec![
        Precondition::IsPrimary { node: from },
        Precondition::OwnsSlots { node: owner },
        Precondition::LivesAt {
            node: owner,
            address: to.address().clone(),
        },
    ];
    let keys_max = p.l.keys_per_pass_max;
    let action = Action::MoveKeys {
        from,
        to,
        slot,
        keys_max,
        replace: false,
    };
    p.act_if(action, Reason::StrayKeys, requires);
    true
}
