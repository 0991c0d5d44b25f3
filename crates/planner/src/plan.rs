//! The plan: the rules in their order.

use std::collections::BTreeMap;

use shardwright_topology::{NodeId, Observed, SlotSet, Source, Timestamp, Why};

use crate::draft::Draft;
use crate::evidence::Dead;
use crate::ours::{standings, without_strangers};
use crate::rules::{
    electable, forget, form, leave, meet, open_slots, promote, recreate, remove, replace, replicas,
    request, settle, shape, spread, start, strays, take_in, uncovered,
};
use crate::safety::NoMove;
use crate::{Desired, Limits, Step, Waiting};

/// What to do next, and what is waited for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Plan {
    /// Steps that can all be taken now. Steps at one node are taken in their order; different nodes in any.
    pub steps: Vec<Step>,
    /// What must happen first, in a fixed order.
    pub waiting: Vec<Waiting>,
}

impl Plan {
    /// True when there is nothing to do and nothing to wait for.
    pub fn is_settled(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_empty()
    }

    /// How many slots have to move yet, and every reason why some of them wait; none where all are where they belong.
    pub fn moves(&self) -> Option<(u32, &[NoMove])> {
        self.waiting.iter().find_map(|w| match w {
            Waiting::Moves { slots_left, why } => Some((*slots_left, why.as_slice())),
            _ => None,
        })
    }

    /// What must be measured before it can be decided whether it may move: slots, by the nodes that hold keys of them.
    pub fn unmeasured(&self) -> BTreeMap<NodeId, SlotSet> {
        let mut by_node: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        for wait in &self.waiting {
            let (Waiting::Moves { why, .. }
            | Waiting::OpenSlotHeld { why, .. }
            | Waiting::StrayKeys { why, .. }) = wait
            else {
                continue;
            };
            for why in why {
                if let NoMove::SizeUnknown { node, slots } = why {
                    let all = by_node.entry(*node).or_insert_with(SlotSet::empty);
                    *all = all.union(slots);
                }
            }
        }
        by_node
    }

    /// True when slots have to move, and a person paused that.
    pub fn is_paused(&self) -> bool {
        self.moves()
            .is_some_and(|(_, why)| why.contains(&NoMove::Paused))
    }

    /// True when slots have to move, a person paused that, and nothing else waits for a person.
    pub fn awaits_resume(&self) -> bool {
        let others = |w: &&Waiting| w.needs_a_person() && !matches!(w, Waiting::Moves { .. });
        self.is_paused() && self.steps.is_empty() && !self.waiting.iter().any(|w| others(&w))
    }

    /// True when nothing more will happen unless a person does something. While a server loads its data, what waits for a
    /// person may be over without one once it answers: slots are served again, and directories may be set aside.
    pub fn is_stuck(&self) -> bool {
        let loads = |w: &Waiting| {
            matches!(
                w,
                Waiting::ServerUnheard {
                    why: Why::Loading,
                    ..
                }
            )
        };
        self.steps.is_empty()
            && !self.waiting.iter().any(loads)
            && self.waiting.iter().any(Waiting::needs_a_person)
    }
}

/// Decides what is to be done now. Total: it cannot fail. The same input gives the same plan.
///
/// The order is the safety story: who belongs here; coverage (every slot has a living owner, and everyone knows it);
/// then redundancy; then what a person asked for; then the declared shards, and that all have as many slots; then what
/// is too many; and at last, when all is at rest, better places. A later group acts only once the earlier has nothing
/// left to do.
pub fn plan(d: &Desired, o: &Observed, l: &Limits, now: Timestamp) -> Plan {
    let standings = standings(d, o);
    let ours = without_strangers(o, &standings);
    let mut p = Draft::new(d, ours.as_ref().unwrap_or(o), l, now, standings);
    // What a stranger says of itself still proves that no other node lives there.
    if ours.is_some() {
        let silent = o.voters().filter(|m| m.source == Source::Others);
        let dead = silent.filter_map(|m| Dead::prove(o, m.id));
        p.replaced = dead.map(|dead| (dead.node(), dead)).collect();
        let speak = o.views().map(|(_, v)| v.id);
        p.strangers = speak.filter(|id| p.o.view_of(*id).is_none()).collect();
    }
    settle::strangers(&mut p);
    promote::dead_primaries(&mut p);
    electable::hold_back_of_the_returned(&mut p);
    start::dead_servers(&mut p);
    replace::outdated(&mut p);
    let stage = form::stage(&mut p);
    match stage {
        form::Stage::Formed => {
            meet::the_cluster(&mut p);
            replicas::follow_anew(&mut p);
            leave::leaving_primaries(&mut p);
            open_slots::close(&mut p);
            strays::carry(&mut p);
            meet::raise_the_disbelieved(&mut p);
            take_in::forget_old_ids(&mut p);
            take_in::give_epoch(&mut p);
            uncovered::cover(&mut p);
            if !p.coverage_at_work() {
                replicas::attach(&mut p);
                electable::release(&mut p);
                forget::the_gone(&mut p);
                request::fulfil(&mut p);
                shape::fit(&mut p);
                remove::the_surplus(&mut p);
            }
            settle::shape(&mut p);
        }
        form::Stage::Forming | form::Stage::Lost => {}
    }
    recreate::stranded(&mut p, stage == form::Stage::Formed);
    settle::the_rest(&mut p);
    spread::better_places(&mut p);
    Plan {
        steps: p.steps,
        waiting: p.waiting.into_iter().collect(),
    }
}
