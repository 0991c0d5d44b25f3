//! How many slots each shard should own, and which slots move so that it comes to that: never more than needed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{NodeId, Slot, SlotRange, SlotSet};

mod loads;

pub use loads::{ByLoad, Loads, Outside, by_load};

/// Who owns which slots.
pub type Owned = BTreeMap<NodeId, SlotSet>;

/// Slots that go from one primary to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// From here.
    pub from: NodeId,
    /// To here.
    pub to: NodeId,
    /// These.
    pub slots: SlotSet,
}

/// How many slots each of those who stay should own: all that are owned now, divided evenly or by weights. A weight
/// that is not given is 1; a node of weight 0 gets none, unless all have 0.
///
/// What does not divide goes, one slot each, to those that are most above their part now, then by id: so no other
/// division moves less.
pub fn quotas(
    owned: &Owned,
    stay: &BTreeSet<NodeId>,
    weights: &BTreeMap<NodeId, u32>,
) -> BTreeMap<NodeId, u16> {
    let total: u64 = owned.values().map(|s| u64::from(s.count())).sum();
    let given = |id: &NodeId| u64::from(weights.get(id).copied().unwrap_or(1));
    let sum: u64 = stay.iter().map(given).sum();
    let weight = |id: &NodeId| if sum == 0 { 1 } else { given(id) };
    let sum: u64 = stay.iter().map(weight).sum();
    if sum == 0 {
        return BTreeMap::new();
    }
    let part = |id: &NodeId| total * weight(id) / sum;
    let mut quotas: BTreeMap<NodeId, u16> = stay.iter().map(|id| (*id, small(part(id)))).collect();
    let given_out: u64 = quotas.values().map(|q| u64::from(*q)).sum();
    let above = |id: &NodeId| i64::from(count(owned, *id)) - i64::from(small(part(id)));
    let mut order: Vec<NodeId> = stay.iter().copied().filter(|id| weight(id) > 0).collect();
    order.sort_by_key(|id| (Reverse(above(id)), *id));
    for (id, _) in order.iter().zip(given_out..total) {
        if let Some(quota) = quotas.get_mut(id) {
            *quota += 1;
        }
    }
    quotas
}

/// What moves so that each owns its quota; who has none owns nothing in the end.
pub fn even(
    owned: &Owned,
    stay: &BTreeSet<NodeId>,
    weights: &BTreeMap<NodeId, u32>,
) -> Vec<Transfer> {
    transfers(owned, &quotas(owned, stay, weights))
}

/// What moves so that these nodes own nothing: to those who own least, so that they come as even as they can without
/// moving anything among themselves.
pub fn drain(owned: &Owned, nodes: &BTreeSet<NodeId>, stay: &BTreeSet<NodeId>) -> Vec<Transfer> {
    let unweighted = BTreeMap::new();
    let mut level: BTreeSet<NodeId> = stay.difference(nodes).copied().collect();
    loop {
        // Those that have more than their part already get nothing: the rest is divided among the others.
        let mut pool: Owned = owned.clone();
        pool.retain(|id, _| nodes.contains(id) || level.contains(id));
        let quotas = quotas(&pool, &level, &unweighted);
        let over = |id: &NodeId| quotas.get(id).is_some_and(|q| count(owned, *id) > *q);
        let full: Vec<NodeId> = level.iter().copied().filter(over).collect();
        if full.is_empty() {
            return transfers(&pool, &quotas);
        }
        level.retain(|id| !full.contains(id));
    }
}

/// The moves from those above their quotas to those below, both in the order of their ids. From the end of what a
/// giver has, so that ranges stay few.
fn transfers(owned: &Owned, quotas: &BTreeMap<NodeId, u16>) -> Vec<Transfer> {
    let quota = |id: NodeId| quotas.get(&id).map_or(0, |quota| *quota);
    let lacks = |id: NodeId| quota(id).saturating_sub(count(owned, id));
    let mut takers: Vec<(NodeId, u16)> = quotas.keys().map(|id| (*id, lacks(*id))).collect();
    takers.retain(|(_, lack)| *lack > 0);
    let mut takers = takers.into_iter().peekable();
    let mut out = Vec::new();
    for (from, slots) in owned {
        let mut left = slots.clone();
        let mut spare = left.count().saturating_sub(quota(*from));
        while let Some((to, lack)) = takers.peek_mut().filter(|_| spare > 0) {
            let moves = spare.min(*lack);
            let slots = last(&left, moves);
            left = left.difference(&slots);
            spare -= moves;
            *lack -= moves;
            out.push(Transfer {
                from: *from,
                to: *to,
                slots,
            });
            if *lack == 0 {
                takers.next();
            }
        }
    }
    out
}

/// The last so many slots of a set.
pub fn last(slots: &SlotSet, many: u16) -> SlotSet {
    let mut left = many;
    let mut taken = Vec::new();
    for range in slots.ranges().iter().rev() {
        let part = range.count().min(left);
        if part == 0 {
            break;
        }
        left -= part;
        let first = u64::from(range.last().number()) + 1 - u64::from(part);
        taken.extend(SlotRange::new(first, u64::from(range.last().number())).ok());
    }
    taken.into_iter().collect()
}

/// The slots of this goal that others than the node own, by owner.
pub(crate) fn wanting(
    goal: &SlotSet,
    node: NodeId,
    owner: impl Fn(Slot) -> Option<NodeId>,
) -> Owned {
    let mut by_owner: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
    for slot in goal.slots() {
        if let Some(from) = owner(slot).filter(|from| *from != node) {
            by_owner.entry(from).or_default().push(slot);
        }
    }
    let set = |(from, slots): (NodeId, Vec<Slot>)| (from, slots.into_iter().collect());
    by_owner.into_iter().map(set).collect()
}

fn count(owned: &Owned, id: NodeId) -> u16 {
    owned.get(&id).map_or(0, SlotSet::count)
}

/// A part of 16384 fits.
fn small(slots: u64) -> u16 {
    u16::try_from(slots).unwrap_or(u16::MAX)
}
