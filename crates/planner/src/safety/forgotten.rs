//! Whether slots without an owner may belong to a node that is not seen: one that all others were made to forget still owns
//! its slots and has their keys, until it hears that they are another's.

use std::collections::BTreeSet;

use shardwright_topology::{ConfigEpoch, NodeId, NodeView, Observed, Role, SlotSet};

use super::Ungiven;

/// Of slots that nobody owns, and that nobody has a key of who was heard: the ones that are not given out without
/// consent, and why. Where the servers are recorded, and all were heard, nobody is missing.
pub(crate) fn ungiven(o: &Observed, recorded: bool, slots: &SlotSet) -> Option<(SlotSet, Ungiven)> {
    if recorded || slots.is_empty() {
        return None;
    }
    let mut views = o.views().map(|(_, view)| view);
    let alone = views.next().filter(|_| views.next().is_none());
    if let Some(node) = alone.and_then(without_table) {
        return Some((slots.clone(), Ungiven::TableLost(node)));
    }
    let here = |id: NodeId| o.member(id).is_some_and(|m| m.role == Role::Primary);
    let rows = o.views().flat_map(|(_, view)| view.rows.iter());
    let known = rows
        .filter(|row| !row.slots.is_empty() && here(row.id))
        .fold(o.orphaned.clone(), |all, row| all.union(&row.slots));
    let unknown = slots.difference(&known);
    let forgotten = !unknown.is_empty() && !were_dropped(o, &unknown);
    forgotten.then_some((unknown, Ungiven::Forgotten))
}

/// A primary that has keys, and neither an epoch nor anybody in its table.
fn without_table(view: &NodeView) -> Option<NodeId> {
    let own = view.own()?;
    let alone = view.peers().next().is_none() && own.epoch == ConfigEpoch(0);
    (alone && own.role == Role::Primary && view.server.keys > 0).then_some(view.id)
}

/// Whether slots were taken from a primary that is here, and not left with one that is not: they are fewer than any
/// primary's, and each epoch that was ever taken is that of a primary here, or may be of a replica here, which shows its
/// primary's.
fn were_dropped(o: &Observed, slots: &SlotSet) -> bool {
    let of = |role: Role| o.members().values().filter(move |m| m.role == role);
    let epochs = of(Role::Primary).map(|m| m.epoch);
    let epochs: BTreeSet<ConfigEpoch> = epochs.filter(|e| *e > ConfigEpoch(0)).collect();
    let here = epochs.len() + of(Role::Replica).count();
    let greatest = o.views().map(|(_, view)| view.cluster.current_epoch).max();
    let all_here = greatest.is_some_and(|e| usize::try_from(e.0).is_ok_and(|taken| taken <= here));
    let claims = o.views().filter_map(|(_, view)| view.own());
    let claims = claims.filter(|own| own.role == Role::Primary && !own.slots.is_empty());
    let fewest = claims.map(|own| own.slots.count()).min();
    all_here && fewest.is_some_and(|fewest| slots.count() < fewest)
}
