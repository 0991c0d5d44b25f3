//! Slots that nobody owns: given out anew only when a person agreed that what they held is lost.

use shardwright_topology::{NodeId, Role, SlotSet, Source};

use crate::draft::Draft;
use crate::{Action, Precondition, Reason, Shape, Waiting, layout};

/// Gives uncovered slots to the primary that owns the fewest, with consent; says so without.
pub(crate) fn cover(p: &mut Draft<'_>) {
    if !p.o.contested().is_empty() {
        p.wait(Waiting::Contested {
            slots: p.o.contested().clone(),
        });
    }
    let slots = p.o.uncovered();
    if slots.is_empty() || p.ours.is_empty() {
        return;
    }
    p.wait(Waiting::Uncovered {
        slots: slots.clone(),
    });
    // Whoever is not heard may own them.
    let unheard = p.o.members().values().any(|m| m.source == Source::Others)
        || p.o.servers().values().any(|s| s.view.known().is_none());
    // And so may the other of two processes with one id.
    if unheard || !p.o.duplicates().is_empty() || !p.d.consent.lose_data {
        return;
    }
    let Some((node, slots)) = share(p, &slots) else {
        return;
    };
    let requires = vec![Precondition::SlotsFree {
        node,
        slots: slots.clone(),
    }];
    p.act_if(
        Action::AddSlots { node, slots },
        Reason::LossAccepted,
        requires,
    );
}

/// Who gets what of the uncovered slots next: where a whole declared shard is gone, an empty primary takes its place;
/// the rest goes to the primary that owns the fewest.
fn share(p: &Draft<'_>, uncovered: &SlotSet) -> Option<(NodeId, SlotSet)> {
    let primaries = || {
        let members = p.o.members().values();
        members.filter(|m| p.is_ours(m.id) && m.role == Role::Primary)
    };
    // Where views still give slots to one that no longer claims them, nobody else could have them: the others would
    // not take notice.
    for member in primaries() {
        let rows = p.o.beliefs(member.id).map(|(_, row)| &row.slots);
        let believed = rows.fold(SlotSet::empty(), |all, slots| all.union(slots));
        let back = believed.intersection(uncovered);
        if !back.is_empty() {
            return Some((member.id, back));
        }
    }
    if let Shape::Declared { shards, .. } = p.d.shape {
        let whole = layout(shards)
            .into_iter()
            .map(SlotSet::from)
            .find(|range| range.difference(uncovered).is_empty());
        // One whose server is too many only where there is no other.
        let empty = primaries().filter(|m| m.slots.is_empty());
        let empty = empty.min_by_key(|m| (p.is_surplus(m.id), m.id));
        if let (Some(range), Some(empty)) = (whole, empty) {
            return Some((empty.id, range));
        }
    }
    primaries()
        .min_by_key(|m| (m.slots.is_empty(), m.slots.count(), m.id))
        .map(|m| (m.id, uncovered.clone()))
}
