//! Slots that nobody owns: given out anew only when a person agreed that what they held is lost.

use shardwright_topology::{Role, Source};

use crate::draft::Draft;
use crate::{Action, Precondition, Reason, Waiting};

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
    if unheard || !p.d.consent.lose_data {
        return;
    }
    let primaries =
        p.o.members()
            .values()
            .filter(|m| p.is_ours(m.id) && m.role == Role::Primary);
    let Some(node) = primaries
        .min_by_key(|m| (m.slots.is_empty(), m.slots.count(), m.id))
        .map(|m| m.id)
    else {
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
