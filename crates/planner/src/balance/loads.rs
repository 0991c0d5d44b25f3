//! Which slots move so that each shard has its part of what the slots hold, as of their keys or their memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{NodeId, Slot, SlotSet};

use super::{Owned, Transfer};

/// What each slot holds: a number of keys, or of bytes. A slot that is not named holds nothing.
pub type Loads = BTreeMap<Slot, u64>;

/// What moves, and who is not near its part even then.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ByLoad {
    /// From whom to whom, in the order of their ids.
    pub transfers: Vec<Transfer>,
    /// Who is further from its part than it may be: no slot of a shard that has too much fits anywhere else.
    pub outside: Vec<Outside>,
}

/// A shard that stays further from its part than it may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Outside {
    /// Its primary.
    pub node: NodeId,
    /// What it has in the end.
    pub load: u64,
    /// What it should have.
    pub part: u64,
    /// The slot of it that holds most, and what that holds. None where it has no slot that holds anything.
    pub hottest: Option<(Slot, u64)>,
}

/// Moves as few slots as bring each of those who stay within `percent` of its part of all load, by weights as for
/// [`quotas`](super::quotas). Whoever does not stay, or has weight 0, gives all its slots.
///
/// It is greedy: from the shard that has most too much, the smallest slot that is enough, else the largest that fits, to
/// the shard with most room; then to the shard that lacks most, in the same way. Neither is taken out of its bounds by
/// it. So each move lessens what is out of bounds in all, it ends, and done again with the same loads it moves nothing.
pub fn by_load(
    owned: &Owned,
    stay: &BTreeSet<NodeId>,
    weights: &BTreeMap<NodeId, u32>,
    loads: &Loads,
    percent: u32,
) -> ByLoad {
    let Some(mut scale) = Scale::new(owned, stay, weights, loads, percent) else {
        return ByLoad::default();
    };
    scale.empty_those_who_leave();
    while scale.relieve() || scale.fill() {}
    scale.result(owned)
}

/// One shard on the scale.
struct Shard {
    load: u64,
    part: u64,
    /// The least and the most that it may have.
    bounds: (u64, u64),
    /// Its slots, by what they hold.
    slots: BTreeSet<(u64, Slot)>,
    stays: bool,
}

impl Shard {
    fn too_much(&self) -> u64 {
        self.load.saturating_sub(self.bounds.1)
    }

    fn lacks(&self) -> u64 {
        self.bounds.0.saturating_sub(self.load)
    }

    /// How much it may give, and take.
    fn slack(&self) -> u64 {
        self.load.saturating_sub(self.bounds.0)
    }

    fn room(&self) -> u64 {
        self.bounds.1.saturating_sub(self.load)
    }

    /// The smallest slot that holds as much as is needed and fits, else the largest that fits.
    fn fitting(&self, needed: u64, limit: u64) -> Option<(u64, Slot)> {
        let least = (needed.max(1), Slot::MIN);
        let above = self.slots.range(least..).next();
        let most = (limit.saturating_add(1), Slot::MIN);
        let below = || self.slots.range(..most).next_back();
        let fits = |entry: &&(u64, Slot)| (1..=limit).contains(&entry.0);
        above.filter(fits).or_else(|| below().filter(fits)).copied()
    }
}

struct Scale(BTreeMap<NodeId, Shard>);

impl Scale {
    /// None where nobody stays.
    fn new(
        owned: &Owned,
        stay: &BTreeSet<NodeId>,
        weights: &BTreeMap<NodeId, u32>,
        loads: &Loads,
        percent: u32,
    ) -> Option<Self> {
        let given = |id: &NodeId| u128::from(weights.get(id).copied().unwrap_or(1));
        let none = stay.iter().all(|id| given(id) == 0);
        let weight = |id: &NodeId| match stay.contains(id) {
            true if none => 1,
            true => given(id),
            false => 0,
        };
        let sum: u128 = stay.iter().map(weight).sum();
        if sum == 0 {
            return None;
        }
        let load = |slot| loads.get(&slot).map_or(0, |load| *load);
        let total: u128 = owned
            .values()
            .flat_map(SlotSet::slots)
            .map(|slot| u128::from(load(slot)))
            .sum();
        let percent = u128::from(percent);
        let empty = SlotSet::empty();
        let all: BTreeSet<NodeId> = owned.keys().chain(stay).copied().collect();
        let shard = |id: NodeId| {
            let slots = owned.get(&id).unwrap_or(&empty).slots();
            let slots: BTreeSet<(u64, Slot)> = slots.map(|slot| (load(slot), slot)).collect();
            let part = total * weight(&id);
            // A part that is no whole number can be met from both sides.
            let lower = (part * 100_u128.saturating_sub(percent)).div_ceil(100 * sum);
            let upper = part * (100 + percent) / (100 * sum);
            let bounds = (lower.min(part / sum), upper.max(part.div_ceil(sum)));
            let shard = Shard {
                load: slots.iter().map(|(load, _)| load).sum(),
                part: whole(part / sum),
                bounds: (whole(bounds.0), whole(bounds.1)),
                slots,
                stays: weight(&id) > 0,
            };
            (id, shard)
        };
        Some(Self(all.into_iter().map(shard).collect()))
    }

    /// Every slot of whoever is to have none goes, the largest first, to who lacks most.
    fn empty_those_who_leave(&mut self) {
        let leaves = self.0.iter().filter(|(_, shard)| !shard.stays);
        let leaves: Vec<NodeId> = leaves.map(|(id, _)| *id).collect();
        for from in leaves {
            let slots = self.0.get_mut(&from).map(|s| std::mem::take(&mut s.slots));
            for (load, slot) in slots.into_iter().flatten().rev() {
                let stays = self.0.iter().filter(|(_, shard)| shard.stays);
                let apart = |s: &Shard| i128::from(s.load) - i128::from(s.part);
                // Slots that hold nothing are spread by number.
                let rank = |s: &Shard| (apart(s), s.slots.len());
                let to = stays.min_by_key(|(id, shard)| (rank(shard), **id));
                if let Some(to) = to.map(|(id, _)| *id) {
                    self.put(to, load, slot);
                }
            }
            if let Some(shard) = self.0.get_mut(&from) {
                shard.load = 0;
            }
        }
    }

    /// Takes a slot from a shard that has too much, the one with most first. Returns whether one did move.
    fn relieve(&mut self) -> bool {
        let heavy = self.ranked(Shard::too_much);
        let roomy = self.ranked(Shard::room);
        heavy.iter().any(|from| {
            let to = roomy.iter().find(|to| *to != from);
            to.is_some_and(|to| self.move_one(*from, *to, Shard::too_much, |_| 0))
        })
    }

    /// Gives a slot to a shard that lacks some, the one with least first. Returns whether one did move.
    fn fill(&mut self) -> bool {
        let light = self.ranked(Shard::lacks);
        let givers = self.ranked(Shard::slack);
        let mut pairs = light
            .iter()
            .flat_map(|to| givers.iter().map(move |from| (from, to)));
        pairs.any(|(from, to)| from != to && self.move_one(*from, *to, |_| 0, Shard::lacks))
    }

    /// Those for which this is more than nothing, the most first.
    fn ranked(&self, by: fn(&Shard) -> u64) -> Vec<NodeId> {
        let stays = self.0.iter().filter(|(_, shard)| shard.stays);
        let ranks = stays.map(|(id, shard)| (Reverse(by(shard)), *id));
        let mut ranks: Vec<_> = ranks.filter(|(by, _)| by.0 > 0).collect();
        ranks.sort_unstable();
        ranks.into_iter().map(|(_, id)| id).collect()
    }

    fn move_one(
        &mut self,
        from: NodeId,
        to: NodeId,
        of_giver: fn(&Shard) -> u64,
        of_taker: fn(&Shard) -> u64,
    ) -> bool {
        let (Some(giver), Some(taker)) = (self.0.get(&from), self.0.get(&to)) else {
            return false;
        };
        let needed = of_giver(giver).max(of_taker(taker));
        let limit = giver.slack().min(taker.room());
        // A shard without slots is none.
        let found = giver
            .fitting(needed, limit)
            .filter(|_| giver.slots.len() > 1);
        let Some((load, slot)) = found else {
            return false;
        };
        if let Some(giver) = self.0.get_mut(&from) {
            giver.slots.remove(&(load, slot));
            giver.load -= load;
        }
        self.put(to, load, slot);
        true
    }

    fn put(&mut self, to: NodeId, load: u64, slot: Slot) {
        if let Some(taker) = self.0.get_mut(&to) {
            taker.slots.insert((load, slot));
            taker.load += load;
        }
    }

    /// What of all this differs from what was.
    fn result(self, owned: &Owned) -> ByLoad {
        let mut out = ByLoad::default();
        let mut moved: BTreeMap<(NodeId, NodeId), Vec<Slot>> = BTreeMap::new();
        for (to, shard) in &self.0 {
            let now: SlotSet = shard.slots.iter().map(|(_, slot)| *slot).collect();
            for (from, before) in owned.iter().filter(|(from, _)| *from != to) {
                let came = before.intersection(&now);
                if !came.is_empty() {
                    moved.insert((*from, *to), came.slots().collect());
                }
            }
            if shard.too_much() > 0 || shard.lacks() > 0 {
                let hottest = shard.slots.last().filter(|(load, _)| *load > 0);
                out.outside.push(Outside {
                    node: *to,
                    load: shard.load,
                    part: shard.part,
                    hottest: hottest.map(|(load, slot)| (*slot, *load)),
                });
            }
        }
        let transfer = |((from, to), slots): ((NodeId, NodeId), Vec<Slot>)| Transfer {
            from,
            to,
            slots: slots.into_iter().collect(),
        };
        out.transfers = moved.into_iter().map(transfer).collect();
        out
    }
}

fn whole(load: u128) -> u64 {
    u64::try_from(load).unwrap_or(u64::MAX)
}
