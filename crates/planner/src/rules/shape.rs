//! Slots move: to new shards, off shards that are too many, to where a person wants them, and for evenness.
//!
//! Nothing is remembered between two plans: each asks anew what still has to move. So a move may be broken off
//! anywhere, and what is declared or asked for may change meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{NodeId, SlotSet};

use crate::balance::{Owned, Transfer, drain, even, last, wanting};
use crate::draft::Draft;
use crate::evidence::{LiveAt, Unburdened};
use crate::functions::missing;
use crate::rules::leave::before_reset;
use crate::safety::{
    NoMove, why_functions_go, why_no_moves, why_no_room, why_not_between, why_replicas_lack,
};
use crate::shape::ours_to_reshape;
use crate::{Action, Precondition, Reason, Waiting};

/// A cluster needs a majority of its primaries: with fewer than three, the loss of one is the loss of all.
const PRIMARIES_MIN: usize = 3;

/// Makes the shards those that are declared, each with as many slots as the others.
pub(crate) fn fit(p: &mut Draft<'_>) {
    if ours_to_reshape(p.d, p.o).is_none() {
        return;
    }
    if let Some((have, want)) = p.reshaping.missing {
        p.wait(Waiting::NodesMissing { have, want });
        return;
    }
    if let Some(node) = p.reshaping.frees {
        return free(p, node);
    }
    let owned = owned(p);
    if owned.is_empty() || !p.o.uncovered().is_empty() {
        return;
    }
    let heads = &p.reshaping.heads;
    let stay: BTreeSet<NodeId> = owned
        .keys()
        .filter(|id| !p.reshaping.drains.contains(id))
        .chain(heads)
        .copied()
        .collect();
    let because = |p: &Draft<'_>, t: &Transfer| {
        if p.reshaping.heads.contains(&t.to) {
            Reason::NewShard
        } else if p.reshaping.drains.contains(&t.from) {
            Reason::Drain
        } else {
            Reason::Uneven
        }
    };
    let transfers =
        around(p, &owned, &stay).unwrap_or_else(|| even(&owned, &stay, &BTreeMap::new()));
    take(p, &transfers, because);
}

/// Where a shard that goes has the replica that one which stays lacks, it gives its slots to the others first: then that
/// replica is free, and all become even again. Nothing else would end that.
fn around(p: &Draft<'_>, owned: &Owned, stay: &BTreeSet<NodeId>) -> Option<Vec<Transfer>> {
    let drains = &p.reshaping.drains;
    let ready = |id: &&NodeId| why_replicas_lack(p.d, p.o, **id).is_none();
    let can: BTreeSet<NodeId> = stay.iter().filter(ready).copied().collect();
    let some_lack = can.len() < stay.len() && !can.is_empty();
    (some_lack && !drains.is_empty()).then(|| drain(owned, drains, &can))
}

/// Makes a replica that its shard does not need a new node: only such can become the head of a shard.
fn free(p: &mut Draft<'_>, replica: NodeId) {
    let left = why_no_moves(p.d, p.o);
    if !left.is_empty() || !p.steps.is_empty() {
        return p.wait(Waiting::Moves {
            slots_left: 0,
            why: [vec![NoMove::NotItsTurn], left].concat(),
        });
    }
    if let Some(node) = Unburdened::prove(p.o, replica) {
        let requires = before_reset(p.o, replica);
        p.act_if(Action::Reset { node }, Reason::NewShard, requires);
    }
}

/// Lets these slots belong to these nodes, as a person asked.
pub(crate) fn assign(p: &mut Draft<'_>, goal: &[(NodeId, SlotSet)]) {
    let mut given = SlotSet::empty();
    let mut transfers = Vec::new();
    for (node, slots) in goal {
        let twice = given.intersection(slots);
        given = given.union(slots);
        if !twice.is_empty() {
            return refuse(p, format!("slots {twice} are to go to two nodes"));
        }
        let Some(to) = p.o.primary_of(*node) else {
            return refuse(p, format!("{} is no primary of this cluster", node.short()));
        };
        let from = wanting(slots, to, |slot| p.o.owner(slot));
        transfers.extend(
            from.into_iter()
                .map(|(from, slots)| Transfer { from, to, slots }),
        );
    }
    take(p, &transfers, |_, _| Reason::Asked);
}

/// Divides the slots of one that was asked to leave among the other primaries that own some.
pub(crate) fn drain_one(p: &mut Draft<'_>, node: NodeId) {
    let owned = owned(p);
    let stay: BTreeSet<NodeId> = owned.keys().copied().filter(|id| *id != node).collect();
    if stay.len() < PRIMARIES_MIN {
        let left = stay.len();
        let why = format!(
            "{} can't leave: {left} primaries with slots would be left, and a cluster needs {PRIMARIES_MIN}",
            node.short()
        );
        return refuse(p, why);
    }
    let transfers = drain(&owned, &BTreeSet::from([node]), &stay);
    take(p, &transfers, |_, _| Reason::Drain);
}

fn owned(p: &Draft<'_>) -> Owned {
    p.o.voters().map(|m| (m.id, m.slots.clone())).collect()
}

/// Moves the first part of each transfer that nothing speaks against, when there is nothing more urgent to do; and says
/// how much is left, and why it waits.
fn take(
    p: &mut Draft<'_>,
    transfers: &[Transfer],
    because: impl Fn(&Draft<'_>, &Transfer) -> Reason,
) {
    if transfers.is_empty() {
        return;
    }
    let mut why: BTreeSet<NoMove> = why_no_moves(p.d, p.o).into_iter().collect();
    if !p.steps.is_empty() {
        why.insert(NoMove::NotItsTurn);
    }
    let blocked = !why.is_empty();
    if !blocked {
        copy_functions(p, transfers);
    }
    let blocked = blocked || !p.steps.is_empty();
    let mut coming: BTreeMap<NodeId, Vec<(NodeId, SlotSet)>> = BTreeMap::new();
    for t in transfers {
        let from = (t.from, t.slots.clone());
        coming.entry(t.to).or_default().push(from);
    }
    let full: BTreeMap<NodeId, Vec<NoMove>> = coming
        .iter()
        .map(|(to, coming)| (*to, why_no_room(p.d, p.o, *to, coming)))
        .collect();
    let emptied = given_away(p, transfers);
    let keeps: BTreeMap<NodeId, NoMove> = emptied
        .into_iter()
        .filter_map(|from| Some((from, why_functions_go(p.o, from)?)))
        .collect();
    let mut moving: Vec<&Transfer> = Vec::new();
    for t in transfers {
        let mut against = why_not_between(p.d, p.o, t.from, t.to, &t.slots);
        against.extend(full.get(&t.to).into_iter().flatten().cloned());
        against.extend(keeps.get(&t.from).cloned());
        // Whoever takes slots raises its epoch: it gives none away before that is known to all.
        let turns = |m: &&Transfer| m.from == t.to || m.to == t.from;
        if against.is_empty() && !blocked && !moving.iter().any(turns) {
            moving.push(t);
        }
        why.extend(against);
    }
    for t in moving {
        let because = because(p, t);
        let part = last(&t.slots, p.l.slots_per_step_max.max(1));
        move_slots(p, t.from, t.to, part, because);
    }
    let left: u32 = transfers.iter().map(|t| u32::from(t.slots.count())).sum();
    p.wait(Waiting::Moves {
        slots_left: left,
        why: why.into_iter().collect(),
    });
}

/// Who would own no slot any more once all of these are done.
fn given_away(p: &Draft<'_>, transfers: &[Transfer]) -> BTreeSet<NodeId> {
    let mut left = owned(p);
    for t in transfers {
        if let Some(slots) = left.get_mut(&t.from) {
            *slots = slots.difference(&t.slots);
        }
    }
    let takes = |id: &NodeId| transfers.iter().any(|t| t.to == *id);
    let empty = left.into_iter().filter(|(_, slots)| slots.is_empty());
    empty.map(|(id, _)| id).filter(|id| !takes(id)).collect()
}

/// Whoever gets its first slots has the functions first that all owners of slots have with the same code.
fn copy_functions(p: &mut Draft<'_>, transfers: &[Transfer]) {
    let takers: BTreeSet<NodeId> = transfers.iter().map(|t| t.to).collect();
    for to in takers {
        // What could not be read is among the reasons why its slots wait.
        if let Ok(Some(missing)) = missing(p.o, to) {
            let from = missing.from;
            let requires = vec![
                Precondition::OwnsSlots { node: from },
                Precondition::IsUnburdened { node: to },
                Precondition::IsPrimary { node: to },
            ];
            let copy = Action::CopyFunctions {
                from,
                to,
                libraries: missing.libraries,
            };
            let left_out = missing.left_out;
            p.act_if(copy, Reason::FunctionsLack { left_out }, requires);
        }
    }
}

fn move_slots(p: &mut Draft<'_>, from: NodeId, to: NodeId, slots: SlotSet, because: Reason) {
    let Some(to) = LiveAt::prove(p.o, to) else {
        return;
    };
    // Once it has given its last slot away it copies another, and drops what it holds.
    let all =
        p.o.member(from)
            .is_none_or(|m| m.slots.difference(&slots).is_empty());
    let mut requires = Vec::new();
    requires.extend(all.then_some(Precondition::HoldsNoStrayKey { node: from }));
    requires.extend([
        Precondition::OwnsSlots { node: from },
        Precondition::IsPrimary { node: to.node() },
        Precondition::LivesAt {
            node: to.node(),
            address: to.address().clone(),
        },
    ]);
    p.act_if(Action::MoveSlots { from, to, slots }, because, requires);
}

fn refuse(p: &mut Draft<'_>, why: String) {
    p.wait(Waiting::Request { why: vec![why] });
}
