//! Which slots nobody owns, by what several nodes say.

use std::collections::BTreeSet;

use crate::{NodeId, NodeView, Role, SlotRange, SlotSet};

/// The slots that none of these nodes owns, and that none of them gives to a node that is not among them. What one says
/// of another that speaks for itself does not count: [`Observed`](crate::Observed) weighs claims by the same rule.
pub fn unowned<'a>(views: impl Iterator<Item = &'a NodeView> + Clone) -> SlotSet {
    let own = views.clone().filter_map(NodeView::own);
    let claimed = own
        .filter(|row| row.role == Role::Primary)
        .flat_map(|row| row.slots.ranges().iter().copied());
    let left = claimed.collect::<SlotSet>().complement();
    if left.is_empty() {
        return left;
    }
    let speakers: BTreeSet<NodeId> = views.clone().map(|v| v.id).collect();
    let rows = views.flat_map(|v| v.rows.iter());
    let silent: SlotSet = rows
        .filter(|row| row.role == Role::Primary && row.is_member() && !speakers.contains(&row.id))
        .flat_map(|row| row.slots.ranges().iter().copied())
        .collect::<Vec<SlotRange>>()
        .into_iter()
        .collect();
    left.difference(&silent)
}
